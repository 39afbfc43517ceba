# Standard input from a pipe, its end seen inside, both streams apart.
echo hi | docker run -i --rm --network none busybox cat
printf 'no newline at the end' | docker run -i --rm --network none busybox cat
echo
printf 'a\nb\n' | docker run -i --rm --network none busybox sh -c 'read x; echo "first $x"; cat; echo end'
docker run -i --rm --network none busybox sh -c 'cat; echo nothing came' </dev/null
echo ignored | docker run --rm --network none busybox sh -c 'cat; echo not attached'
docker run --rm --network none busybox sh -c 'echo out; echo err >&2'
echo 1 2 3 | docker run -i --rm --network none -a stdin -a stdout busybox sh -c 'cat; echo unseen >&2'
echo to-logs | docker run -i --name kept --network none busybox cat
docker logs kept
