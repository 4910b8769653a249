# Two stages on a bare Debian: npm installs, and only the Node.js binary and the program go into the image.
FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates nodejs npm \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/ravine
COPY package.json package-lock.json .npmrc ./
# Debian's Node.js is older than what Ravine runs on; `npm ci` brings the pinned one, which is kept.
RUN npm ci --omit=dev && mv node_modules/node-linux-*/bin/node /usr/local/bin/ravine-node && rm -r node_modules/node-linux-*
COPY bin bin
COPY src src
COPY migrations migrations
COPY config config

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --create-home --home-dir /var/lib/ravine ravine
COPY --from=build /usr/local/bin/ravine-node /usr/local/bin/node
COPY --from=build /opt/ravine /opt/ravine
USER ravine
WORKDIR /var/lib/ravine
VOLUME /var/lib/ravine
EXPOSE 8008/tcp 8448/tcp 5683/udp
ENTRYPOINT ["node", "/opt/ravine/bin/ravine.js"]
CMD ["serve"]
