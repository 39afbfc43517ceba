# Volumes: made, found, used, refused, pruned.
try() { "$@"; echo "status $?"; }
try docker volume create one
try docker volume create one
try docker volume create --label a=b --label c two
try docker volume create -d local --opt type=tmpfs --opt device=tmpfs --opt o=size=1m,mode=700 mem
try docker volume create 'bad name'
try docker volume create a
try docker volume create /abs
try docker volume create --opt nonsense=1 three
try docker volume create --opt type=tmpfs three
try docker volume create --opt o=size=1m three
try docker volume inspect three
docker volume create | wc -c
docker volume ls -q | sed 's/^[0-9a-f]\{64\}$/anonymous/' | sort
docker volume ls -f name=two
docker volume ls -f name=t -q
docker volume ls -f label=a -q
docker volume ls -f label=a=b -q
docker volume ls -f label=a=x -q
docker volume ls -f driver=local -q | wc -l
docker volume ls -f driver=other -q
try docker volume ls -f nonsense=1
try docker volume ls -f dangling=maybe
docker volume ls --format '{{.Name}}|{{.Driver}}|{{.Scope}}|{{.Label "a"}}' -f name=two
docker volume ls --format '{{.Labels}}' -f name=two | tr , '\n' | sort
docker volume inspect -f '{{.Name}} {{json .Labels}} {{json .Options}} {{.Scope}}' one two mem
docker volume inspect one | grep -v Mountpoint
try docker volume inspect one nobody two -f '{{.Name}}'
docker run --rm --network none -v mem:/m busybox sh -c 'df -k /m | tail -n 1 | tr -s " " | cut -d" " -f 2; ls -ld /m | cut -c 1-10'
docker run -d --name user --network none -v one:/one -v /anonymous busybox sleep 100
docker volume ls -f dangling=true -q | sed 's/^[0-9a-f]\{64\}$/anonymous/' | sort
docker volume ls -f dangling=false -q | sed 's/^[0-9a-f]\{64\}$/anonymous/' | sort
try docker volume rm one
try docker volume rm -f one
try docker volume rm -f nobody
try docker volume rm nobody two
docker stop -t 0 user
try docker volume rm one
docker volume prune -f --filter label=no-such
docker volume ls -q | wc -l
docker rm -v user
docker volume ls -q | sed 's/^[0-9a-f]\{64\}$/anonymous/' | sort
docker volume rm mem one
docker volume prune -f
docker volume ls
try docker volume prune -f --filter nonsense=1
docker run --network none --name n1 -v full:/etc busybox true
docker run --rm --network none -v full:/x busybox ls /x
docker run --rm --network none --mount source=empty,target=/etc,volume-nocopy busybox ls -a /etc
docker run --rm --network none -v empty2:/etc:nocopy busybox ls -a /etc
docker run --rm --network none --mount type=volume,target=/auto busybox ls -a /auto
docker rm n1
docker run --rm --network none --mount type=volume,source=lab,target=/x,volume-label=who=me busybox true
docker volume inspect -f '{{json .Labels}}' lab
docker volume rm full empty empty2 lab
docker volume ls -q
