"""Talks to the servers of the development stack in their own protocols.

probe.py free PORT                              exit 0 when the port can be bound
probe.py http URL                               exit 0 when the answer is 200
probe.py wait  postgres|kafka|clickhouse PORT SECONDS PID
    waits until it answers; on failure prints why: it stopped (PID is gone), or it never answered in time
"""

import base64
import hashlib
import hmac
import os
import secrets
import socket
import struct
import sys
import time
import urllib.request

HOST = "127.0.0.1"
TIMEOUT = 5.0


class NotReady(Exception):
    pass


def receive(sock, count):
    data = b""
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise NotReady("connection closed")
        data += chunk
    return data


# --- PostgreSQL: log in as postgres with SCRAM-SHA-256, then `select 1` -----------------------------------------------


def pg_message(sock):
    kind = receive(sock, 1)
    (length,) = struct.unpack("!I", receive(sock, 4))
    body = receive(sock, length - 4)
    if kind == b"E":
        fields = {part[:1]: part[1:] for part in body.split(b"\0") if part}
        raise NotReady(fields.get(b"M", b"error").decode(errors="replace"))
    return kind, body


def pg_send(sock, kind, body):
    sock.sendall(kind + struct.pack("!I", len(body) + 4) + body)


def pg_login(sock, password):
    nonce = base64.b64encode(secrets.token_bytes(18)).decode()
    bare = f"n=,r={nonce}"
    first = ("n,," + bare).encode()
    pg_send(sock, b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)
    _, body = pg_message(sock)
    server = body[4:].decode()
    fields = dict(part.split("=", 1) for part in server.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    without_proof = f"c=biws,r={fields['r']}"
    signature = hmac.digest(hashlib.sha256(client_key).digest(), f"{bare},{server},{without_proof}".encode(), "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()
    pg_send(sock, b"p", f"{without_proof},p={proof}".encode())


def postgres(port):
    with socket.create_connection((HOST, port), TIMEOUT) as sock:
        parameters = b"user\0postgres\0database\0postgres\0application_name\0weft-dev-probe\0\0"
        sock.sendall(struct.pack("!II", len(parameters) + 8, 196608) + parameters)
        asked = False
        while True:
            kind, body = pg_message(sock)
            if kind == b"R" and struct.unpack("!I", body[:4])[0] == 10:
                pg_login(sock, os.environ.get("WEFT_PG_PASSWORD", "weft"))
            elif kind == b"Z" and not asked:
                asked = True
                pg_send(sock, b"Q", b"select 1\0")
            elif kind == b"D":
                pg_send(sock, b"X", b"")
                return


# --- Kafka: ApiVersions, then Metadata: a broker and a controller must be listed ---------------------------------------

METADATA = 3
API_VERSIONS = 18


def kafka_call(sock, key, version, body):
    client = b"weft-dev-probe"
    head = struct.pack("!hhih", key, version, 1, len(client)) + client
    sock.sendall(struct.pack("!I", len(head) + len(body)) + head + body)
    (length,) = struct.unpack("!I", receive(sock, 4))
    return receive(sock, length)[4:]


def kafka(port):
    with socket.create_connection((HOST, port), TIMEOUT) as sock:
        sock.settimeout(TIMEOUT)
        answer = kafka_call(sock, API_VERSIONS, 0, b"")
        error, count = struct.unpack_from("!hi", answer)
        ranges = {key: (low, high) for key, low, high in (struct.unpack_from("!hhh", answer, 6 + 6 * i) for i in range(count))}
        low, high = ranges.get(METADATA, (99, -1))
        if error or not low <= 4 <= high:
            raise NotReady(f"not a Kafka broker that we know (error {error})")
        # Version 4: no topics asked for, none created.
        answer = kafka_call(sock, METADATA, 4, struct.pack("!i?", 0, False))
        (brokers,) = struct.unpack_from("!i", answer, 4)
        at = 8
        for _ in range(brokers):
            at += 4
            (length,) = struct.unpack_from("!h", answer, at)
            at += 2 + length + 4
            (length,) = struct.unpack_from("!h", answer, at)
            at += 2 + max(length, 0)
        (length,) = struct.unpack_from("!h", answer, at)
        (controller,) = struct.unpack_from("!i", answer, at + 2 + max(length, 0))
        if brokers < 1 or controller < 0:
            raise NotReady("no broker registered yet")


# --- ClickHouse: `select 1` over HTTP ---------------------------------------------------------------------------------


# Never through a proxy: everything asked here is on this machine.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def clickhouse(port):
    with OPENER.open(f"http://{HOST}:{port}/?query=select%201", timeout=TIMEOUT) as answer:
        if answer.read().strip() != b"1":
            raise NotReady("unexpected answer to select 1")


PROBES = {"postgres": postgres, "kafka": kafka, "clickhouse": clickhouse}


def attempt(name, port):
    try:
        PROBES[name](port)
        return None
    except (OSError, NotReady, struct.error, KeyError, ValueError) as error:
        return str(error) or type(error).__name__


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait(name, port, seconds, pid):
    deadline = time.monotonic() + seconds
    while True:
        problem = attempt(name, port)
        if problem is None:
            return 0
        if pid and not alive(pid):
            print("stopped while starting")
            return 1
        if time.monotonic() > deadline:
            print(f"did not answer within {seconds:.0f} s ({problem})")
            return 1
        time.sleep(0.05)


def free(port):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
            return 0
        except OSError:
            return 1


def http(url):
    try:
        with OPENER.open(url, timeout=TIMEOUT) as answer:
            return 0 if answer.status == 200 else 1
    except (OSError, ValueError):
        return 1


def main(arguments):
    match arguments:
        case ["free", port]:
            return free(int(port))
        case ["http", url]:
            return http(url)
        case ["wait", name, port, seconds, pid]:
            return wait(name, int(port), float(seconds), int(pid))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
