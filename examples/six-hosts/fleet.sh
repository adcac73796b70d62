#!/bin/sh
# The hosts of the mesh and its services, as the administrator declares them. It may be run again: what is so
# already stays as it is, and nothing is signed twice. requests/NAME.txt came from each host (`meshd enroll --name
# NAME --out NAME.txt`), bundles/NAME.txt goes back (`meshd join NAME.txt`). So did what a host alone knows of its
# servers: requests/NAME.garage, NAME.sshd and NAME.ssh (README.md).
set -eu

core="tesla newton bohr"

host() {
	wgctl add-host "$1" --request "requests/$1.txt" --out "bundles/$1.txt" \
		--address "$2" --jails "$3" --region "$4" --role "$5"
}
#    name   address    jails        region   role
host tesla  10.99.0.1 10.17.1.0/24 eu-west  core
host newton 10.99.0.2 10.17.2.0/24 eu-north core
host bohr   10.99.0.3 10.17.3.0/24 us-east  core
host curie  10.99.0.4 10.17.4.0/24 eu-west  builder
host fermi  10.99.0.5 10.17.5.0/24 eu-north balancer
host dirac  10.99.0.6 10.17.6.0/24 us-east  watch

# On all three hosts of the core: two are enough to go on.
wgctl service add etcd --kind etcd --port 2379 --min-endpoints 2 --check http=:2379/health
wgctl service add postgres --kind patroni --port 5432 --min-endpoints 2 --check http=:8008/health
wgctl service add cache --kind redis --port 6379 --min-endpoints 2 --check tcp
wgctl service add zrepl --kind zrepl --port 8888 --min-endpoints 2
for name in $core; do
	wgctl service place "$name/etcd"
	wgctl service place "$name/postgres"
	wgctl service place "$name/zrepl"
done
wgctl service place tesla/cache --tag role=master
wgctl service place newton/cache
wgctl service place bohr/cache

# Garage keeps objects on the core, a whole copy on each; an operator applies its layout.
wgctl service add garage --kind garage --port 3901 --min-endpoints 2 --check http=:3903/health
for name in $core; do
	node_id=$(cat "requests/$name.garage")
	wgctl service place "$name/garage" --tag "node_id=$node_id" --tag capacity=500G
done

# In jails of the core.
wgctl service add nextcloud --kind http --port 80 --check http=:80/status.php
wgctl service place tesla/nextcloud --jail www --address 10.17.1.10
wgctl service place bohr/nextcloud --jail www --address 10.17.3.10
wgctl service add gitea --kind gitea --port 3000 --check tcp
wgctl service place newton/gitea --jail www --address 10.17.2.10
wgctl service add mail --kind smtp --port 25 --check tcp
wgctl service place newton/mail

# What the three helpers do: build packages, balance load, watch.
wgctl service add packages --kind http --port 8080 --check http=:8080/
wgctl service place curie/packages
wgctl service add proxy --kind http --port 8088 --check tcp
wgctl service place fermi/proxy
wgctl service add prometheus --kind prometheus --port 9090 --check http=:9090/-/healthy
wgctl service place dirac/prometheus
wgctl service add alertmanager --kind alertmanager --port 9093 --check http=:9093/-/healthy
wgctl service place dirac/alertmanager
wgctl service add uptimekuma --kind uptimekuma --port 3001 --check tcp
wgctl service place dirac/uptimekuma --jail www --address 10.17.6.10
wgctl service add loki --kind loki --port 3100 --check http=:3100/ready
wgctl service place dirac/loki

# Packages and metrics are worth a second copy: curie and dirac have each other's.
wgctl service add syncoid --kind syncoid --port 22 --check tcp
for name in curie dirac; do
	host_key=$(cat "requests/$name.sshd")
	key=$(cat "requests/$name.ssh")
	wgctl service place "$name/syncoid" --tag root_fs=zroot/copies --tag "ssh_host_key=$host_key" --tag "ssh_key=$key"
done
