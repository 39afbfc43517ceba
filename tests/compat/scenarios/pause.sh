# Pause and unpause, and what is refused meanwhile.
docker run -d --name pp --network none busybox sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done'
docker pause pp
docker ps --format '{{.Names}} {{.State}}'
docker inspect -f '{{.State.Status}} {{.State.Paused}} {{.State.Running}}' pp
docker logs pp | tail -n 1 >before
sleep 0.4
docker logs pp | tail -n 1 >after
cmp before after && echo "stood still"
docker pause pp
echo "status $?"
docker exec pp true
echo "status $?"
docker attach pp
echo "status $?"
docker rm pp
echo "status $?"
docker unpause pp
docker unpause pp
echo "status $?"
docker ps -f status=paused --format '{{.Names}}'
docker pause nobody
echo "status $?"
docker pause pp
docker stop -t 1 pp
docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' pp
docker pause pp
echo "status $?"
