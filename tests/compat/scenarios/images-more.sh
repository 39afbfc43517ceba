# Images: names that clash, users that keep them, histories, what load and import say.
try() { "$@"; echo "status $?"; }
id=$(docker image inspect -f '{{.Id}}' busybox)
try docker tag busybox busybox
try docker tag busybox one:1
try docker tag busybox one
try docker tag $id two
try docker tag "$(echo $id | cut -c 8-19)" three:v1.2-x_y
try docker tag busybox sha256:x
try docker tag busybox 'x:bad tag'
try docker tag busybox 'x@sha256:0000'
try docker tag nobody x
docker images --format '{{.Repository}}:{{.Tag}}' | sort
docker images --format '{{.Repository}}:{{.Tag}}' one | sort
docker images --format '{{.Repository}}:{{.Tag}}' one:1
docker images --format '{{.Repository}}:{{.Tag}}' 'o*:*' | sort
docker images -q | sort -u | wc -l
docker images -a -q --no-trunc | sort -u | wc -l
docker images -f before=one -q
docker images -f since=one -q
docker images -f label=x -q
try docker images -f dangling=maybe
try docker images -f nonsense=1
try docker images -f before=nobody
try docker rmi nobody
try docker rmi one:none
try docker rmi one:1 nobody one
try docker rmi 'BAD'
try docker rmi $id
docker run -d --name user --network none busybox sleep 100
try docker rmi two
try docker rmi one
docker rmi -f three:v1.2-x_y
try docker rmi -f $id
docker stop -t 0 user
try docker rmi "$(echo $id | cut -c 8-19)"
try docker rmi busybox:latest
docker rm user
docker images --format '{{.Repository}}:{{.Tag}}' | sort
try docker image inspect nobody busybox -f '{{json .RepoTags}} {{json .RepoDigests}} {{.Parent}}|{{.Comment}}|{{.Author}}|{{.Variant}}'
docker image inspect -f '{{.GraphDriver.Name}}' busybox >/dev/null
docker image inspect -f '{{json .Config.Volumes}} {{json .Config.OnBuild}} {{json .Config.Labels}} {{.Config.User}}|{{.Config.WorkingDir}}|{{.Config.StopSignal}}' busybox
try docker history nobody
docker history -q --no-trunc busybox
docker history --format '{{.ID}} {{.CreatedBy}} {{.Comment}}' busybox
mkdir t; echo mine >t/me
tar -C t --owner=0 --group=0 --numeric-owner --mtime=@0 --sort=name -cf t.tar .
gzip -k t.tar
bzip2 -k t.tar 2>/dev/null || cp t.tar t.tar.bz2
xz -k t.tar
for f in t.tar t.tar.gz t.tar.xz; do docker import $f "imp:$f" | cut -c 1-7; done
docker images -q imp | sort -u | wc -l
try docker import t.tar 'BAD:name' >/dev/null
try docker import t.tar imp@sha256:0000000000000000000000000000000000000000000000000000000000000000
try docker import -c 'CMD x y' -c 'USER u' -c 'EXPOSE 80 53/udp' -c 'VOLUME /v' -c 'ONBUILD RUN x' -c 'HEALTHCHECK CMD x' t.tar imp:changed | cut -c 1-7
docker image inspect -f '{{json .Config.Cmd}} {{.Config.User}} {{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{json .Config.OnBuild}} {{json .Config.Healthcheck}}' imp:changed
for c in 'RUN x' 'FROM x' 'COPY a b' 'ENV' 'ENV A' 'EXPOSE x' 'WORKDIR' 'USER' 'CMD [x' 'VOLUME' 'HEALTHCHECK' 'HEALTHCHECK NONSENSE' 'ONBUILD ONBUILD RUN x' 'LABEL' '' 'CMD ["a", 1]' 'ENV A=b C' 'ENV =b' 'ENV A="x' 'EXPOSE 70000' 'VOLUME []' 'HEALTHCHECK NONE x' 'HEALTHCHECK --interval=1us CMD x' 'HEALTHCHECK --retries=0 CMD x' 'HEALTHCHECK CMD []'; do
  echo "<$c>"; docker import -c "$c" t.tar bad >/dev/null; echo "status $?"
done
docker import -c 'CMD' -c 'USER a b' -c 'LABEL "x y"="z" a=b\
 c=d' -c 'WORKDIR /a b' -c 'EXPOSE 8080:80 81/udp' -c 'ENV A=1' -c 'ENV B=${A:+two} C="${D:-d e}"' t.tar imp:read | cut -c 1-7
docker image inspect -f '{{json .Config.Cmd}} {{.Config.User}} {{json .Config.Labels}} {{.Config.WorkingDir}} {{json .Config.ExposedPorts}} {{json .Config.Env}}' imp:read
docker import t.tar >untagged
docker images -f dangling=true --format '{{.Repository}} {{.Tag}}' | head -n 1
try docker run --rm --network none imp:t.tar
try docker run --rm --network none imp:t.tar /me
try docker run --rm --network none imp:t.tar sh
docker rmi $(cut -c 8-19 untagged) >/dev/null
docker rmi imp:t.tar imp:t.tar.gz imp:t.tar.xz imp:changed imp:read >/dev/null
docker rmi bad 2>/dev/null >/dev/null
echo nonsense | try docker load
try docker load -i /dev/null 2>&1 | sed "s/docker-import-[0-9]*/docker-import/"
tar -cf empty.tar -T /dev/null
try docker load -i empty.tar 2>&1 | sed "s/docker-import-[0-9]*/docker-import/"
docker images --format '{{.Repository}}:{{.Tag}}' | sort
