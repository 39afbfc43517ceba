# Logs: the two streams, the tail, times, following to the end.
docker run --name ll --network none busybox sh -c 'for i in 1 2 3 4 5; do echo err $i >&2; sleep 0.03; echo line $i; sleep 0.03; done; printf unfinished' >/dev/null 2>&1
docker logs ll
echo
docker logs ll 2>/dev/null
echo
docker logs ll 2>&1 >/dev/null
docker logs --tail 2 ll 2>/dev/null
echo
docker logs --tail 0 ll
docker logs -n all ll 2>/dev/null | wc -l
docker logs -t --tail 1 ll
echo
docker logs --since 1h --tail 1 ll
echo
docker logs --until 1h ll
echo
docker run -d --name ff --network none busybox sh -c 'for i in 1 2 3; do echo $i; sleep 0.2; done'
docker logs -f ff
docker run --name long --network none busybox sh -c 'head -c 40000 /dev/zero | tr "\0" x; echo' | wc -c
docker logs long | wc -c
docker logs nobody
echo "status $?"
docker run --name tty -t --network none busybox sh -c 'echo a; echo b >&2' >/dev/null
docker logs tty | od -c
docker run --name quiet --log-driver none --network none busybox echo said
docker logs quiet
echo "status $?"
docker run --name labelled --log-opt labels=x --label x=1 --network none busybox echo hello
docker logs --details labelled
