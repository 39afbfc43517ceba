# Binds, tmpfs, volumes: named, anonymous, shared between containers.
mkdir host; echo from-host >host/file
docker run --rm --network none -v "$PWD/host:/data" busybox cat /data/file
docker run --rm --network none -v "$PWD/host:/data:ro" busybox touch /data/new
echo "status $?"
docker run --rm --network none --mount "type=bind,source=$PWD/host,target=/data,readonly" busybox sh -c 'cat /data/file; touch /data/x'
docker run --rm --network none -v "$PWD/made:/data" busybox ls -d /data; ls -d made
docker run --rm --network none --mount "type=bind,source=$PWD/missing,target=/data" busybox true 2>&1 | sed "s#$PWD#PWD#"
docker run --rm --network none --tmpfs /t:size=1m,mode=700 busybox sh -c 'ls -ld /t | cut -c 1-10; df -k /t | tail -n 1 | tr -s " " | cut -d" " -f 2'
docker run --rm --network none --mount type=tmpfs,target=/t,tmpfs-size=1048576 busybox sh -c 'df -k /t | tail -n 1 | tr -s " " | cut -d" " -f 2'
docker volume create vol1
docker run --rm --network none -v vol1:/vol busybox sh -c 'echo kept >/vol/file'
docker run --rm --network none -v vol1:/vol:ro busybox sh -c 'cat /vol/file; touch /vol/x'
docker run --rm --network none -v vol1:/etc busybox ls /etc
docker run --rm --network none -v fresh:/home busybox ls -a /home
docker run -d --name first --network none -v vol1:/vol -v /anonymous busybox sleep 100
docker run --rm --network none --volumes-from first busybox sh -c 'cat /vol/file; ls -d /anonymous'
docker inspect -f '{{range .Mounts}}{{.Type}} {{.Destination}} {{.Driver}} {{.Mode}} {{.RW}} {{.Propagation}};{{end}}' first | tr ';' '\n' | sort
docker volume ls -q | sed 's/^[0-9a-f]\{64\}$/anonymous/' | sort
docker volume rm vol1
echo "status $?"
docker volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{json .Options}} {{json .Labels}}' vol1
docker volume inspect nothing
echo "status $?"
docker rm -fv first
docker volume ls -q | sort
docker volume rm vol1 fresh nothing
echo "status $?"
docker run --rm --network none -v relative/path:/x busybox true
echo "status $?"
docker run --rm --network none -v "$PWD/host:not-absolute" busybox true
echo "status $?"
docker run --rm --network none --read-only -v v2:/w busybox sh -c 'touch /w/ok && touch /no'
docker volume prune -f --filter label=none
docker volume rm v2
