# Images: listed, looked into, tagged, removed, imported.
docker images
docker images -q | wc -l
docker image inspect -f '{{json .RepoTags}} {{.Os}}/{{.Architecture}} {{json .Config.Cmd}} {{json .Config.Entrypoint}}' busybox
docker image inspect -f '{{.RootFS.Type}} {{len .RootFS.Layers}}' busybox
docker history --format '{{.CreatedBy}}|{{.Comment}}' busybox
docker tag busybox other:1
docker tag busybox some.registry/name/space:tag
docker images --format '{{.Repository}}:{{.Tag}}' | sort
docker images 'oth*' --format '{{.Repository}}'
docker images -f reference='*:1' --format '{{.Repository}}'
docker images -f dangling=true -q
docker rmi other:1
docker rmi some.registry/name/space:tag
docker rmi nothing
echo "status $?"
docker image inspect nothing
echo "status $?"
docker tag nothing x
echo "status $?"
docker tag busybox 'BAD:name'
echo "status $?"
docker run --name user --network none busybox true
docker rmi busybox
echo "status $?"
docker rm user
mkdir -p t/etc; echo mine >t/etc/me
tar -C t --owner=0 --group=0 --numeric-owner --mtime=@0 --sort=name -cf t.tar .
docker import -c 'ENV A=b' -c 'LABEL x=y' -c 'WORKDIR /etc' -c 'ENTRYPOINT ["/bin/x"]' -m note t.tar imported:1 | cut -c 1-7
docker image inspect -f '{{json .Config.Env}} {{json .Config.Labels}} {{.Config.WorkingDir}} {{json .Config.Entrypoint}} {{.Comment}}' imported:1
docker import - piped <t.tar | cut -c 1-7
docker import -c 'NONSENSE x' t.tar bad
echo "status $?"
echo garbage | docker import - garbage
echo "status $?"
docker rmi imported:1 piped | cut -d: -f 1 | sort
docker images --format '{{.Repository}}:{{.Tag}}' | sort
