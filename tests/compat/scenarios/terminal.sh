# A terminal: its size, its echo, its line ends, the exit code; and again in an exec.
talk='tty; printf "# "; read x; echo "read $x"; until [ "$(stty size 2>/dev/null)" = "24 80" ]; do sleep 0.05; done; stty size; printf "# "; read y; exit $y'
printf 'some words\n3\n' | terminal docker run -it --rm --network none busybox sh -c "$talk"
echo "status $?"
printf 'x\n0\n' | terminal docker run -it --rm --network none -e TERM=dumb busybox sh -c 'echo $TERM; printf "# "; read x'
echo "status $?"
docker run -d --name tt --network none busybox sleep 100
printf 'more words\n5\n' | terminal docker exec -it tt sh -c "$talk"
echo "status $?"
docker run -t --rm --network none busybox sh -c 'echo one; echo two >&2' | od -c
echo x | docker run -it --rm --network none busybox cat
echo "status $?"
printf '\003' | terminal docker run -it --rm --network none busybox sh -c 'trap "echo interrupted; exit 7" INT; printf "# "; while :; do sleep 0.05; done'
echo "status $?"
printf '\020\021' | terminal docker run -it --name left --network none busybox sh -c 'printf "# "; sleep 100'
echo "status $?"
docker inspect -f '{{.State.Running}}' left
