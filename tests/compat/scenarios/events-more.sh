# Events: of images and volumes, of refusals, formats, and their order.
# No name here is hexadecimal: Docker's filter takes one for the beginning of an id, too.
sleep 1.1
since=$(date +%s)
docker volume create ev >/dev/null
docker tag busybox ev:1
docker run --rm --name zz --network none --label a=b -v ev:/ev busybox true
docker run --name bad --network none busybox no-such-command
docker rm bad >/dev/null
docker run -d --name long --network none busybox sleep 100 >/dev/null
docker exec long sh -c 'exit 3'
docker restart -t 0 long >/dev/null
docker stop -t 0 long >/dev/null
docker rm -f long >/dev/null
docker rmi ev:1 >/dev/null
docker volume rm ev >/dev/null
mkdir t; tar -C t -cf t.tar .
docker import t.tar ev:2 >/dev/null
docker rmi ev:2 >/dev/null
sleep 1.1
until=$(date +%s)
seen() { docker events --since $since --until $until "$@"; }
seen --filter type=container --format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}'
seen --filter type=volume --format '{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.driver}}' | grep -v '^unmount' 
seen --filter type=image --format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'
seen --filter image=busybox --filter event=start --format '{{.Actor.Attributes.image}}'
seen --filter container=zz --format '{{.Action}}'
seen --filter container=zz --filter container=long --filter event=create --filter event=destroy --format '{{.Action}} {{.Actor.Attributes.name}}'
seen --filter label=a=b --filter type=container --format '{{.Action}}'
seen --filter label=a=x --format '{{.Action}}'
seen --filter event=exec_create --format '{{.Action}}'
seen --filter event=exec_die --format '{{.Action}} {{.Actor.Attributes.exitCode}}'
seen --filter event=stop --filter event=restart --format '{{.Action}} {{.Scope}} {{.From}} {{.Status}}'
docker events --since $since --until $until | cut -d' ' -f 2-
seen --filter event=nonsense
seen --filter type=nonsense
seen --filter nonsense=1 | wc -l
echo "status $?"
docker events --since nonsense
echo "status $?"
docker events --since 2 --until 1
echo "status $?"
seen --filter container=zz --filter event=create --format json | tr ',{}' '\n\n\n' | grep -vE '^("time|)$' | grep -v time
seen --filter volume=ev --filter event=create
