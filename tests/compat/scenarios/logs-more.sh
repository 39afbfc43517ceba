# Logs: since, until, tails, details, following what is over, of what never ran.
docker run -d --name ll --network none busybox sh -c 'echo one; sleep 1.2; echo two; sleep 0.2; echo bad >&2; until [ -e /go ]; do sleep 0.05; done; echo three'
until [ "$(docker logs ll 2>&1 | wc -l)" = 3 ]; do sleep 0.05; done
mid=$(docker logs -t ll 2>/dev/null | tail -n 1 | cut -d' ' -f 1)
docker logs --since "$mid" ll 2>/dev/null
docker logs --until "$mid" ll 2>/dev/null | head -n 1
docker logs --since 1m ll 2>/dev/null
docker logs --until 1m ll
docker logs --since 2000-01-01 --tail 1 ll 2>/dev/null
docker logs --since nonsense ll
echo "status $?"
docker logs --until nonsense ll
echo "status $?"
docker logs --tail nonsense ll 2>/dev/null
echo "status $?"
docker logs --tail -1 ll 2>/dev/null
docker logs --tail 99 ll 2>/dev/null
docker logs -f ll >followed 2>&1 & a=$!
docker logs -f --tail 0 ll >tail0 2>&1 & b=$!
docker logs -ft --tail 1 ll >timed 2>&1 & c=$!
until [ -s followed ] && [ -s timed ]; do sleep 0.05; done
sleep 0.5
docker exec ll touch /go
wait $a $b $c
sort followed; cat tail0; wc -l <timed
docker logs -f ll 2>/dev/null
docker create --name never --network none busybox true
docker logs never
echo "status $?"
docker logs -f never &
sleep 0.3; kill $!; wait $!
docker logs nobody
echo "status $?"
docker run -d --name twice --network none busybox sh -c 'echo run; echo'
docker wait twice
docker start twice >/dev/null
docker wait twice
docker logs twice
docker logs -t twice | cut -c 31-
docker run --name more --network none -e SHOWN=yes --label lab=el --log-opt labels=lab --log-opt env=SHOWN --log-opt tag='{{.Name}}' busybox echo hello
docker logs --details more
docker logs --details -t more | cut -c 31-
docker run --name bin --network none busybox printf 'a\0b\377\r\nc\n\n' | od -An -c
docker logs bin | od -An -c
docker inspect -f '{{json .HostConfig.LogConfig.Type}}' more
