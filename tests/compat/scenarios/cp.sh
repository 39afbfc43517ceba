# Copying both ways, into what runs and what does not, volumes and links seen.
# The client complains of its own closed pipe when it is told early, or not, as it happens.
try() { "$@" 2>err; code=$?; grep -v 'closed pipe' err >&2; echo "status $code"; }
docker run -d --name work --network none -v vol:/data busybox sh -c 'ln -s /root /link; touch /ready; sleep 100'
until docker exec work ls /ready >/dev/null 2>&1; do sleep 0.1; done
echo content >file
try docker cp file work:/root/h
try docker cp file work:/data/
try docker cp file work:/link/
try docker cp missing work:/data/
try docker cp file work:/nope/x
try docker cp file work:/nope/
try docker cp work:/nope x
try docker cp file nobody:/x
try docker cp nobody:/x file
mkdir -p t/u; echo 1 >t/u/f; ln -s f t/u/l; chown 5:6 t/u/f
try docker cp t work:/root/new
try docker cp t work:/root/new
try docker cp t/. work:/root/two
try docker cp t/u/f work:/data
try docker cp t/u work:/root/h
docker exec work sh -c 'cd /root; find . | sort; ls -ln new/u | tr -s " " | cut -d" " -f 1,3,4,9-; ls /data'
try docker cp work:/root/new out
try docker cp work:/root/new out
try docker cp work:/root/new/. out2
find out out2 | sort
docker cp work:/etc/passwd - | tar t
docker cp work:/root/two/. - | tar t | sort
docker cp work:/ - | tar t | grep -c proc/
docker cp -L work:/root/new/u/l followed; cat followed
docker cp work:/root/new/u/l kept; readlink kept
tar c t | docker cp - work:/tmp; docker exec work find /tmp | sort
tar c t | gzip | docker cp - work:/tmp/..
docker exec work ls /t
docker run -d --name ro --network none --read-only -v vol:/data:ro busybox sleep 100
try docker cp file ro:/root/
try docker cp file ro:/data/
docker stop -t 0 work ro
try docker cp file ro:/root/
try docker cp file ro:/data/
try docker cp file work:/data/later
docker cp work:/data - | tar t | sort
docker export work | tar t | grep -E '^(data|root|ready|link)' | sort
try docker export nobody
docker rm -f work ro
docker volume rm vol
