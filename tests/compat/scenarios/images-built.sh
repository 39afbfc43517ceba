# Images that are built on one another here, and names that go to others: histories, lists, conflicts.
try() { "$@"; echo "status $?"; }
id() { docker image inspect -f '{{.Id}}' "$1"; }
base=$(id busybox)
docker create --name made --network none busybox sh -c 'exit 3' >/dev/null
docker commit -m first -c 'ENV A=b' made on:1 >/dev/null
docker commit -m second -c 'USER a b' made also:1 >/dev/null
docker rm made >/dev/null
docker history --no-trunc --format '{{.ID}} {{.Comment}}' on:1
test "$(docker history -q --no-trunc on:1 | tail -n 1)" = "$base" && echo base
docker image inspect -f '{{.Parent}}' on:1
docker tag busybox x:1
try docker rmi "$base"
docker rmi x:1
try docker rmi "$base"
docker tag busybox y:1
docker rmi busybox y:1
docker images --format '{{.Repository}} {{.ID}}' | sort | wc -l
docker images -a --format '{{.Repository}}' | sort
try docker rmi -f "$base"
docker tag "$base" busybox
docker create --name user --network none on:1 true >/dev/null
docker ps -a --format '{{.Image}}'
docker tag also:1 on:1
docker ps -a --format '{{.Image}}'
docker inspect -f '{{.Config.Image}}' user
docker create --name named --network none also:1 true >/dev/null
docker rmi -f also:1 | cut -c 1-8
docker ps -a --format '{{.Names}} {{.Image}}' | sort
docker images -f dangling=true --format '{{.Repository}}'
for f in 'dangling=yes' 'dangling=T' 'reference=[' 'reference=bus[a-c]ybox' 'reference=[^a]*' 'reference=o?' 'reference=\on'; do
  echo "<$f>"; try docker images -f "$f" --format '{{.Repository}}' 2>&1 | sort
done
docker rm user named >/dev/null
docker rmi -f on:1 | cut -c 1-8
docker image prune -f >/dev/null
docker images --format '{{.Repository}}'
