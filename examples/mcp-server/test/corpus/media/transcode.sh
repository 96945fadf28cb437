#!/bin/sh
# Makes every upload playable in browsers: H.264 and AAC in an MP4 whose index stands at the front.
set -eu

for film in "$@"; do
  ffmpeg -nostdin -loglevel error -i "$film" \
    -c:v libx264 -preset slow -crf 21 -pix_fmt yuv420p \
    -c:a aac -b:a 160k -movflags +faststart \
    "${film%.*}.mp4"
done
