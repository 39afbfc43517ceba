# Lists: tables, filters, formats.
docker run -d --name up --network none --label app=web busybox sleep 100
docker run --name ended --network none --label app=db busybox sh -c 'exit 3'
docker create --name made --network none busybox true
docker ps
docker ps -a
docker ps -a --no-trunc --format '{{.Names}} {{.Command}}'
docker ps -l --format '{{.Names}}'
docker ps -n 2 --format '{{.Names}}'
for f in status=exited status=created status=running exited=3 exited=0 label=app label=app=web name=ad name=^up$ \
  ancestor=busybox before=made since=up network=none health=none volume=/nowhere; do
  echo "$f: $(docker ps -a -f "$f" --format '{{.Names}}' | sort | tr '\n' ' ')"
done
docker ps -f status=nonsense
echo "status $?"
docker ps -f nonsense=1
echo "status $?"
docker ps -a --format 'table {{.Names}}\t{{.Image}}\t{{.Networks}}\t{{.Ports}}'
docker ps --format '{{json .Labels}} {{.Label "app"}} {{.LocalVolumes}} {{.Mounts}} {{.Size}}'
docker ps -aq --no-trunc | wc -l
