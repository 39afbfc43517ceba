# Exec: streams, user, environment, working directory, detached, exit code.
docker run -d --name cc --network none -e BASE=1 -w /tmp --hostname box busybox sleep 100
docker exec cc pwd
docker exec cc sh -c 'echo out; echo err >&2'
docker exec -w /etc cc pwd
docker exec -u 1000 cc id
docker exec -u user cc id
docker exec -u 1000:29 cc id
docker exec -e MORE=2 -e BASE=3 cc sh -c 'echo $BASE $MORE'
docker exec cc sh -c 'echo $HOME $PATH'
docker exec cc hostname
printf 'x\ny\n' | docker exec -i cc sh -c 'read a; echo "got $a"; cat'
docker exec -d cc touch /tmp/done
until docker exec cc test -e /tmp/done; do sleep 0.05; done
docker exec -t cc tty
docker exec cc sh -c 'grep -c . /proc/self/mountinfo >/dev/null && grep -E "^(Cap|Seccomp:|NoNewPrivs)" /proc/self/status'
docker exec --privileged cc sh -c 'grep Seccomp: /proc/self/status'
docker stop -t 0 cc
docker exec cc true
echo "status $?"
docker create --name idle --network none busybox true
docker exec idle true
echo "status $?"
