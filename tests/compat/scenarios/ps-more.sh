# Lists: more filters, sizes, the health, names that match, the last ones.
docker volume create vv
docker run -d --name web1 --network none --label app=web --label tier=1 -v vv:/vv --tmpfs /t busybox sleep 100
docker run -d --name web2 --network host --label app=web -v /tmp:/host busybox sleep 100
docker run -d --name well --network none --health-cmd true --health-interval 100ms busybox sleep 100
docker run -d --name ill --network none --health-cmd false --health-interval 100ms --health-retries 1 busybox sleep 100
docker run -d --name held --network none busybox sleep 100
docker pause held
docker run --name five --network none busybox sh -c 'exit 5'
docker create --name made --network none --expose 80 --expose 53/udp busybox true
docker run --name bad --network none busybox no-such-command
until [ "$(docker inspect -f '{{.State.Health.Status}}' well)" = healthy ]; do sleep 0.05; done
until [ "$(docker inspect -f '{{.State.Health.Status}}' ill)" = unhealthy ]; do sleep 0.05; done
docker ps -a --format '{{.Names}}|{{.Status}}|{{.State}}|{{.Ports}}|{{.Networks}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Labels}}'
for f in status=paused status=dead status=restarting status=removing exited=5 exited=127 exited=137 label=app label=tier=1 label=tier=2 \
  name=web name=^/web1$ 'name=we[bl]' name=WEB id=zz volume=vv volume=/vv volume=/host volume=/tmp network=host network=none network=bridge \
  health=healthy health=unhealthy health=none health=starting ancestor=nobody ancestor=busybox:latest is-task=false isolation=default \
  expose=80 expose=53/udp expose=1-100 publish=80; do
  echo "$f: $(docker ps -a -f "$f" --format '{{.Names}}' 2>&1 | sort | tr '\n' ' ')"
done
echo "$(docker ps -a -f label=app -f label=tier --format '{{.Names}}')"
echo "$(docker ps -a -f name=web -f status=running -f name=five --format '{{.Names}}' | sort | tr '\n' ' ')"
echo "$(docker ps -a -f status=created -f status=exited --format '{{.Names}}' | sort | tr '\n' ' ')"
docker ps -f status=exited --format '{{.Names}}'
docker ps -f before=held --format '{{.Names}}'
docker ps -f since=held -a --format '{{.Names}}'
docker ps -a -f ancestor="$(docker image inspect -f '{{.Id}}' busybox)" -q | wc -l
docker ps -n 1 --format '{{.Names}}'
docker ps -n 0 --format '{{.Names}}' | wc -l
docker ps -n -1 --format '{{.Names}}' | wc -l
docker ps -l -q | wc -l
docker ps -q --format '{{.Names}}' | wc -l
for f in exited=x exited= health=nonsense before=nobody since=nobody label publish=x expose=x 'name=[' is-task=maybe; do
  echo "<$f>"; docker ps -a -f "$f" --format '{{.Names}}' | sort | tr '\n' ' '; echo
done
docker ps -as --format '{{.Names}}' | wc -l
docker exec web1 sh -c 'head -c 1000000 /dev/zero >/big'
docker ps -s -f name=web1 --format '{{.Size}}' | cut -d' ' -f 1
docker ps -a --format json -f name=made | tr , '\n' | grep -vE 'CreatedAt|RunningFor|"ID"|Status'
docker volume rm -f vv
docker rm -f web1
docker volume rm vv
