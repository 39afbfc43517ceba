# Names: in a network of a user, by link in the default one; the three files.
docker network create --subnet 10.93.0.0/24 back
docker run -d --name db --network back --network-alias store --hostname dbhost busybox sleep 100
docker run --rm --network back busybox cat /etc/resolv.conf | grep -v '^#\|^search\|^$' | sort
for name in db store db.back store.back; do
  docker run --rm --network back busybox sh -c "ping -c 1 -W 2 $name | head -1"
done
docker run --rm --network back busybox ping -c 1 -W 1 nobody
echo "status $?"
docker run --rm --network back --link db:mine busybox sh -c 'ping -c 1 -W 2 mine | head -1'
docker exec db cat /etc/hosts | tail -1
docker exec db hostname
docker rename db db2
docker run --rm --network back busybox sh -c 'ping -c 1 -W 2 db2 | head -1'
docker run --rm --network back busybox ping -c 1 -W 1 db
docker run --rm --network back --dns 192.0.2.1 --dns-search example.org --dns-option ndots:2 busybox cat /etc/resolv.conf | grep -v '^#\|^$' | sort
docker rm -f db2
docker network rm back
docker run -d --name db busybox sleep 100
docker run --rm --name web --link db:base busybox grep base /etc/hosts | sed 's/^[0-9.]*/<address>/'
docker run --rm --name web --link db busybox sh -c 'ping -c 1 -W 2 db | head -1'
docker create --name linked --link db:base busybox true
docker inspect -f '{{json .HostConfig.Links}}' linked
docker stop -t 0 db
docker start linked
echo "status $?"
docker run --rm --link nobody:x busybox true
echo "status $?"
docker run --rm --add-host a:1.2.3.4 --add-host gw:host-gateway busybox grep '^1.*[aw]$' /etc/hosts
docker run --rm --dns 192.0.2.1 --dns-search example.org busybox cat /etc/resolv.conf | grep -v '^#\|^$' | sort
docker run -d --name kept busybox sleep 100
docker exec kept sh -c 'echo nameserver 192.0.2.9 >/etc/resolv.conf'
docker restart -t 0 kept
docker exec kept grep -c 192.0.2.9 /etc/resolv.conf
docker rm -f kept db linked
