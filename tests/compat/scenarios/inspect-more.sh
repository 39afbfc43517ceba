# Inspect: several kinds at once, what is not there, what a default container's record says.
try() { "$@"; echo "status $?"; }
docker volume create vv
docker run -d --name cc --network none -v vv:/vv -v /tmp:/host:ro --mount type=tmpfs,target=/t,tmpfs-mode=700 busybox sleep 100
try docker inspect -f '{{.Name}}' cc vv
try docker inspect -f '{{.Name}}' cc nobody vv
try docker inspect --type container -f '{{.Name}}' busybox
try docker inspect --type image -f '{{json .RepoTags}}' busybox cc
try docker inspect --type volume -f '{{.Name}}' vv nobody
try docker inspect --type network -f '{{.Name}}' none nobody
try docker inspect --type nonsense cc
try docker inspect -f '{{.Nope' cc
try docker inspect -f '{{json .State.Health}} {{.State.Nope}}' cc
try docker inspect nobody
try docker container inspect nobody
try docker image inspect nobody
try docker volume inspect nobody
try docker network inspect nobody
docker container inspect -s -f '{{if ge .SizeRootFs 0}}size{{end}}' cc
docker network inspect none -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.EnableIPv6}} {{json .Labels}} {{json .Options}} {{.IPAM.Driver}} {{json .IPAM.Config}} {{.Attachable}} {{.Ingress}}'
docker network inspect none -f '{{range .Containers}}{{.Name}} {{.MacAddress}}|{{.IPv4Address}}{{end}}'
docker network ls --format '{{.Name}} {{.Driver}} {{.Scope}}' | grep -v bridge
sorted='import json, sys
found = json.load(sys.stdin)
for one in found:
    one.get("Mounts", []).sort(key=lambda mount: mount["Destination"])
    one.get("HostConfig", {}).get("MaskedPaths", []).sort()
    one.get("HostConfig", {}).get("Binds", []).sort()  # the client sends them in any order
print(json.dumps(found, indent=1, sort_keys=True))'
plain() { python3 -c "$sorted" | grep -vE '"(Id|Created|StartedAt|Pid|ResolvConfPath|HostnamePath|HostsPath|LogPath|SandboxID|SandboxKey|EndpointID|NetworkID|LowerDir|MergedDir|UpperDir|WorkDir|Source|Image|Size|VirtualSize|LastTagTime|Hostname|DockerVersion)":|"sha256:' | sed 's/,$//'; }
docker inspect cc | plain
docker inspect -f '{{len .NetworkSettings.SandboxID}} {{range .NetworkSettings.Networks}}{{len .NetworkID}} {{len .EndpointID}}{{end}}' cc
docker inspect -f '{{range $k, $v := .GraphDriver.Data}}{{$k}} {{if $v}}set{{end}};{{end}}' cc
docker inspect -f '{{range .Mounts}}{{json .}}{{println}}{{end}}' cc | sort
docker stop -t 0 cc
docker inspect -f '{{json .State}}' cc | sed 's/Pid":[0-9]*/Pid/'
docker inspect -f '{{len .NetworkSettings.SandboxID}} {{range .NetworkSettings.Networks}}{{len .NetworkID}} {{len .EndpointID}}{{end}}' cc
docker rm -v cc
docker volume rm vv
docker image inspect busybox | plain
