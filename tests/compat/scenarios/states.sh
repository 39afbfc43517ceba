# What each state allows: every verb against every state.
docker create --name made --network none busybox sleep 100
docker run -d --name runs --network none busybox sleep 100
docker run -d --name held --network none busybox sleep 100
docker pause held
docker run --name over --network none busybox sh -c 'exit 4'
verb() { "$@" >out 2>&1; echo "$? $*: $(cat out)"; }
for c in made runs held over nobody; do
  verb docker start $c
  [ $c = made ] && docker stop -t 0 made
  [ $c = over ] && docker wait over
  verb docker pause $c
  verb docker pause $c
  verb docker exec $c true
  verb docker kill -s CONT $c
  verb docker unpause $c
  verb docker unpause $c
  verb docker stop -t 0 $c
  verb docker stop -t 0 $c
  verb docker kill $c
  verb docker exec $c true
  verb docker attach $c
  verb docker port $c
  verb docker wait $c
  verb docker rename $c $c
  verb docker rename $c other$c
  verb docker rename other$c $c
  verb docker restart -t 0 $c
  [ $c = over ] && docker wait over
  verb docker rm $c
  verb docker rm -f $c
  verb docker rm -f $c
done
docker ps -a
docker run -d --name one --network none busybox sleep 100
docker run -d --name two --network none busybox sleep 100
docker run -d --name three --network none busybox sh -c 'exit 9'
docker wait three
verb docker wait three nobody three
verb docker stop -t 0 one nobody two
verb docker wait one two three
verb docker start one two three
docker wait three
verb docker restart -t 0 one nobody two
verb docker kill -s KILL one nobody two
docker wait one two
verb docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' one two three nobody
verb docker pause one two
verb docker rm one nobody two three
docker run -d --name one --network none --stop-signal KILL busybox sleep 100
docker stop one
docker inspect -f '{{.State.ExitCode}}' one
docker start one
docker stop -s nonsense one
docker stop -t -1 one
docker start one
docker kill -s 0 one
docker kill -s 65 one
docker kill -s sigterm one
docker kill -s SIGKILL one
docker wait one
