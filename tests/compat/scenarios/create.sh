# Create and start apart; attached starts; auto-removal; cidfile.
docker create --name cc --network none busybox sh -c 'echo started; exit 6'
docker ps -a
docker start -a cc
echo "status $?"
docker start cc
docker wait cc
docker logs cc
docker create -i --name ii --network none busybox cat
echo through | docker start -a -i ii
docker run --cidfile cid --name ff -d --network none busybox true
[ "$(cat cid)" = "$(docker inspect -f '{{.Id}}' ff)" ] && echo "the same id"
docker run --cidfile cid --network none busybox true
echo "status $?"
docker run --rm --name gone --network none busybox true
docker inspect gone
echo "status $?"
docker create --rm --restart always --network none busybox true
echo "status $?"
docker run -d --rm --restart always --network none busybox true
echo "status $?"
docker start cc nobody ff
echo "status $?"
docker create --pull never --network none no-such-image:here
echo "status $?"
