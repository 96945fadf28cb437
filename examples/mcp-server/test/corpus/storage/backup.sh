#!/bin/sh
# Every night: a dump of the database, encrypted, to another continent; thirty of them are kept.
set -eu

day=$(date +%F)
pg_dump --format=custom tidepool | age --recipients-file /etc/tidepool/backup.pub > "/var/backups/$day.dump.age"
rclone copy "/var/backups/$day.dump.age" cold:tidepool-backups/
find /var/backups -name '*.dump.age' -mtime +30 -delete
