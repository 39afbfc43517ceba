# What a container changed: listed, committed, saved, loaded, exported, imported; and the events.
since=$(date +%s)
try() { "$@"; echo "status $?"; }
docker run --name work --network none -e A=b busybox sh -c 'echo hi >/new; rm /bin/vi; chmod 700 /root; mkdir -p /d/e; ln -s new /link'
docker diff work | sort
try docker diff nobody
docker commit -m note -a me -c 'ENV X=y' -c 'ENTRYPOINT ["/bin/x"]' work img:1 | cut -c 1-7
docker image inspect -f '{{json .Config.Env}} {{json .Config.Cmd}} {{json .Config.Entrypoint}} {{.Author}} {{.Comment}} {{len .RootFS.Layers}}' img:1
docker history --format '{{.CreatedBy}}|{{.Comment}}' img:1
docker run --rm --network none --entrypoint cat img:1 /link
docker run --rm --network none --entrypoint ls img:1 /bin/vi
try docker commit nobody
try docker commit work BAD:name
try docker commit -c 'NONSENSE x' work
docker create --name idle --network none busybox true
docker diff idle
docker commit idle empty:1 | cut -c 1-7
docker history --format '{{.Size}}|{{.CreatedBy}}' empty:1
docker image inspect -f '{{len .RootFS.Layers}}' empty:1
docker run -d --name runs --network none busybox sh -c 'touch /on; sleep 100'
until docker exec runs ls /on >/dev/null 2>&1; do sleep 0.1; done
docker commit runs live:1 | cut -c 1-7
docker inspect -f '{{.State.Status}}' runs
docker pause runs
docker commit runs live:2 | cut -c 1-7
docker inspect -f '{{.State.Status}}' runs
docker unpause runs
docker tag busybox other:1
docker tag busybox other:2
names() { tar xO manifest.json | tr , '\n' | grep -o -E '(busybox|img|other):[a-z0-9]*|RepoTags":null' | sort; }
docker save img:1 | names
docker save busybox img:1 | names
docker save other | names
docker save "$(docker image inspect -f '{{.Id}}' img:1)" | names
try docker save nothing
before=$(docker image inspect -f '{{.Id}} {{.RootFS.Layers}}' img:1)
docker save -o two.tar img:1 busybox
docker rmi -f img:1 >/dev/null
docker load -i two.tar | sort
test "$before" = "$(docker image inspect -f '{{.Id}} {{.RootFS.Layers}}' img:1)" && echo same
docker run --rm --network none --entrypoint cat img:1 /new
docker export work >e.tar
docker import -m mine e.tar flat:1 | cut -c 1-7
docker run --rm --network none flat:1 cat /new
docker cp work:/new copied
docker cp copied work:/tmp
docker events --since "$since" --until "$(($(date +%s) + 1))" --filter container=work --filter container=runs --format '{{.Action}}' | grep -v -E '^(exec|network)'
docker rm -f work idle runs
docker rmi -f img:1 empty:1 live:1 live:2 other:1 other:2 flat:1 | cut -d: -f 1 | sort -u
docker images --format '{{.Repository}}'
