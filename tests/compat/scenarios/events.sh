# The life of a container as its events tell it, replayed afterwards.
sleep 1.1  # so that nothing before this falls into the same second
since=$(date +%s)
docker create --name ee --network none --label who=me busybox sh -c 'exit 3'
docker start ee
docker wait ee
docker rename ee ff
docker rm ff
docker run -d --name rr --network none busybox sleep 100
docker exec rr true
docker pause rr
docker unpause rr
docker kill -s KILL rr
docker wait rr
docker rm rr
sleep 1
until=$(date +%s)
docker events --since $since --until $until --filter type=container --format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'
docker events --since $since --until $until --filter event=die --format '{{.Action}} {{.Actor.Attributes.exitCode}} {{.Actor.Attributes.image}}'
docker events --since $since --until $until --filter label=who=me --format '{{.Action}}'
docker events --since $since --until $until --filter container=rr --filter event=kill --format '{{json .Actor.Attributes}}'
docker events --since $since --until $until --filter event=start
