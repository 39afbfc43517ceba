# Attached starts, and attach.
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
docker run -d -i --name oo --network none busybox sh -c 'while read x; do echo "<$x>"; [ "$x" = quit ] && exit 6; done; echo eof'
# Where input stays open (StdinOnce is false), Docker ends a client's output with its input, and so
# loses what comes then; ours sends all of it (tests/integration/launch). The log is compared.
printf 'two\nquit\n' | docker attach oo >/dev/null
echo "status $?"
docker logs oo
docker create -i --name once --network none busybox sh -c 'while read x; do echo "<$x>"; [ "$x" = quit ] && exit 7; done; echo eof'
docker start once
printf 'two\nquit\n' | docker attach once
echo "status $?"
docker run -d --name nn --network none busybox sh -c 'until [ -e /go ]; do sleep 0.05; done; echo gone; exit 5'
docker attach --no-stdin nn &
sleep 0.3
docker exec nn touch /go
wait $!
echo "status $?"
docker attach nn
echo "status $?"
docker attach nobody
echo "status $?"
