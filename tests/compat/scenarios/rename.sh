# Names: given, taken, changed, refused.
docker create --name one --network none busybox true
docker create --name one --network none busybox true
echo "status $?"
docker create --name '-bad' --network none busybox true
echo "status $?"
docker create --name 'x' --network none busybox true
echo "status $?"
docker rename one two
docker inspect -f '{{.Name}}' two
docker inspect -f '{{.Name}}' one
echo "status $?"
docker create --name one --network none busybox true
docker rename one two
echo "status $?"
docker rename one one
echo "status $?"
docker rename nobody three
echo "status $?"
docker rename one 'bad name'
echo "status $?"
docker ps -a --format '{{.Names}}' | sort
docker rm one two
docker rm nobody
echo "status $?"
