# Wait: before the end, after it, for several.
docker run -d --name aa --network none busybox sh -c 'sleep 0.3; exit 3'
docker wait aa
docker wait aa
docker run -d --name bb --network none busybox sh -c 'sleep 0.2; exit 4'
docker wait aa bb
docker create --name never --network none busybox true
timeout 1 docker wait never
echo "status $?"
docker run -d --rm --name gone --network none busybox sh -c 'sleep 0.3; exit 5'
docker wait gone
until [ -z "$(docker ps -aq -f name=gone)" ]; do sleep 0.05; done
docker wait gone
echo "status $?"
