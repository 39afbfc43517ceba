# Exec: users, variables, folders, ends; what is refused.
try() { "$@"; echo "status $?"; }
docker run -d --name cc --network none --hostname box -e HOME=/mine --env FROM=run busybox sleep 100
try docker exec cc sh -c 'exit 255'
try docker exec cc no-such-command
try docker exec cc /no/such
try docker exec cc /etc/passwd
try docker exec -w /no/such cc pwd
try docker exec -w relative cc pwd
try docker exec -w /etc/passwd cc pwd
try docker exec -u nobody-here cc id
try docker exec -u 1:nobody-here cc id
try docker exec -u 4294967296 cc id
try docker exec -u user:user cc id
try docker exec -u :1 cc id
try docker exec cc ''
try docker exec -e BARE -e 'A=b=c' -e EMPTY= cc sh -c 'env | grep -E "^(BARE|A|EMPTY|FROM|HOME)=" | sort'
try docker exec -t cc sh -c 'echo $TERM; tty; stty size >/dev/null && echo sized'
try docker exec -t cc sh -c 'exit 3'
try docker exec -t -e TERM=mine cc sh -c 'echo $TERM'
try docker exec -d cc no-such-command
try docker exec -d cc sh -c 'exit 3'
try docker exec -d nobody true
try docker exec cc sh -c 'kill -9 $$'
try docker exec cc sh -c 'kill $$'
printf x | try docker exec cc cat
printf x | try docker exec -i cc cat
echo
try docker exec -i cc cat </dev/null
try docker exec cc sh -c 'ls -l /proc/self/fd | wc -l; echo 1 >&2' 2>/dev/null
docker exec cc sleep 33 &
until docker exec cc ps | grep -q '[s]leep 33'; do sleep 0.05; done
docker inspect -f '{{len .ExecIDs}}' cc
docker exec cc sh -c 'kill $(ps | grep "[s]leep 33" | sed "s/^ *//" | cut -d" " -f 1)'
wait $!
echo "status $?"
docker exec cc sleep 44 & a=$!
until docker exec cc ps | grep -q '[s]leep 44'; do sleep 0.05; done
docker kill cc
wait $a
echo "status $?"
try docker exec cc true
docker start cc >/dev/null
docker pause cc
try docker exec cc true
docker unpause cc
try docker exec cc echo works
docker run -d --name user --network none -u 1000 -w /tmp --cap-drop ALL busybox sleep 100
try docker exec user sh -c 'id; pwd; grep CapEff /proc/self/status'
try docker exec -u 0 user sh -c 'id; grep -E "^Cap(Eff|Bnd)" /proc/self/status'
try docker exec --privileged user sh -c 'id -u'
