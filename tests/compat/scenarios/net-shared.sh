# Who shares a network namespace, and who has none.
start=$(date +%s)
docker run -d --name box busybox sleep 100
docker run --rm --network container:box busybox ip -o -4 addr show dev eth0 | awk '{print $4}' | sed 's/[0-9]*\//N\//'
docker run -d --name joined --network container:box busybox sleep 100
docker inspect -f '{{.HostConfig.NetworkMode}} {{json .NetworkSettings.Networks}} {{json .NetworkSettings.Ports}}' joined | sed 's/[0-9a-f]\{64\}/<id>/'
docker inspect -f '{{.Config.Hostname}}' joined box | uniq | wc -l
docker run --rm --network none busybox ls /sys/class/net
docker run --rm --network host busybox ls /sys/class/net | grep -c lo
docker inspect -f '{{.NetworkSettings.IPAddress}} {{.NetworkSettings.IPPrefixLen}} {{.NetworkSettings.Gateway}} {{printf "%.14s" .NetworkSettings.MacAddress}}' box | sed 's/[0-9]* /N /'
docker inspect -f '{{if .NetworkSettings.SandboxKey}}has a key{{end}}' box
docker rm -f joined box
# The client asks for whole seconds.
sleep 1
docker events --since "$start" --until 0s --filter type=network --format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}}' | sort | uniq -c | sed 's/^ *[0-9]* //' | uniq
