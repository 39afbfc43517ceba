# Attached starts, attach, detach keys, the proxy of signals.
docker create --name cc --network none busybox sh -c 'echo out; echo err >&2; exit 3'
docker start -a cc 2>&1 | sort
docker start -a cc 2>/dev/null
echo "status $?"
docker start -a cc >/dev/null
docker start -a cc nobody
echo "status $?"
docker start -a nobody
echo "status $?"
docker create -i --name ii --network none busybox sh -c 'cat; echo end'
printf 'a\nb\n' | docker start -i ii
printf 'again\n' | docker start -ai ii
docker start -ai ii </dev/null
echo not-read | docker start -a ii >/dev/null &
until [ "$(docker inspect -f '{{.State.Running}}' ii)" = true ]; do sleep 0.05; done
printf 'typed\n' | timeout -s KILL 5 docker attach ii
echo "status $?"
wait $!
docker run -d -i --name rr --network none busybox sh -c 'while read x; do echo "<$x>"; [ "$x" = quit ] && exit 6; done'
printf 'one\n' | timeout -s KILL 0.7 docker attach --sig-proxy=false rr
echo "status $?"
docker inspect -f '{{.State.Running}}' rr
docker run -d -i --name oo --network none busybox sh -c 'while read x; do echo "<$x>"; [ "$x" = quit ] && exit 6; done; echo eof'
printf 'two\nquit\n' | docker attach oo
echo "status $?"
docker logs oo
docker run -d --name nn --network none busybox sh -c 'until [ -e /go ]; do sleep 0.05; done; echo gone; exit 5'
docker attach --no-stdin nn &
sleep 0.3
docker exec nn touch /go
wait $!
echo "status $?"
docker attach nn
echo "status $?"
docker run -d --name sig --network none busybox sh -c 'trap "echo got; exit 8" TERM; echo up; while :; do sleep 0.05; done'
docker attach sig >sig.out & a=$!
sleep 0.4
kill -TERM $a
wait $a
echo "status $?"
cat sig.out
docker run -d --name nosig --network none busybox sh -c 'trap "echo got; exit 8" TERM; echo up; while :; do sleep 0.05; done'
docker attach --sig-proxy=false nosig & a=$!
sleep 0.4
kill -TERM $a
wait $a
echo "status $?"
docker inspect -f '{{.State.Running}}' nosig
docker run --sig-proxy --name fore --network none busybox sh -c 'trap "echo hup; exit 9" HUP; echo up; while :; do sleep 0.05; done' & a=$!
until [ "$(docker logs fore 2>/dev/null)" = up ]; do sleep 0.05; done
kill -HUP $a
wait $a
echo "status $?"
printf 'x' | terminal docker run -it --detach-keys x --name keyed --network none busybox sh -c 'printf "# "; sleep 100'
echo "status $?"
docker inspect -f '{{.State.Running}}' keyed
printf '\001\002' | terminal docker attach --detach-keys ctrl-a,ctrl-b keyed
echo "status $?"
printf 'q' | terminal docker exec -it --detach-keys q keyed sh -c 'printf "# "; sleep 100'
echo "status $?"
docker attach --detach-keys nonsense keyed </dev/null
echo "status $?"
docker exec --detach-keys nonsense keyed true
echo "status $?"
docker start -a --detach-keys nonsense cc
echo "status $?"
docker run --rm --detach-keys nonsense --network none busybox true
echo "status $?"
docker attach nobody
echo "status $?"
