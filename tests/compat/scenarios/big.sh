# 20 MB through standard input and standard output, unharmed.
yes 0123456789abcdef | head -c 20971520 >sent
docker run -i --rm --network none busybox cat <sent >back
sha256sum <sent
sha256sum <back
docker run -i --rm --network none busybox sha256sum <sent
docker run --rm --network none busybox sh -c 'yes 0123456789abcdef | head -c 20971520' | sha256sum
docker run -d --name big --network none busybox sleep 100
docker exec -i big cat <sent | sha256sum
docker exec big sh -c 'yes 0123456789abcdef | head -c 20971520' | sha256sum
