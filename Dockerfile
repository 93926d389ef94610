# syntax=docker/dockerfile:1
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml LICENSE ./
COPY engine engine
COPY api api
RUN python -m venv /opt/bincard \
 && /opt/bincard/bin/pip install --no-cache-dir --disable-pip-version-check .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/bincard bincard \
 && install -d -o bincard -g bincard /data
COPY --from=build /opt/bincard /opt/bincard
ENV PATH=/opt/bincard/bin:$PATH \
    PYTHONUNBUFFERED=1
USER bincard
# `bincard serve` keeps its data in ./data unless told otherwise.
WORKDIR /
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('BINCARD_PORT', '8080') + '/healthz', timeout=2)"]
# `docker run --network host bincard` serves on the loopback address; `docker run bincard doctor` and every other command work too.
ENTRYPOINT ["bincard"]
CMD ["serve"]
