"""Runs the clickhouse-local inside libchdb.so as an HTTP server: server.py LIBCHDB DATA_DIR PORT CONFIG.

clickhouse-local ends when its query ends. So its query counts the lines of standard input, which is a pipe that nobody writes to;
closing the pipe is the graceful stop.
"""

import ctypes
import os
import signal
import sys
import threading


def main(library, data, port, config):
    read_end, write_end = os.pipe()
    os.dup2(read_end, 0)
    os.close(read_end)
    # Before the library is loaded: its threads inherit the mask, so only sigwait below sees the signals.
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops | {signal.SIGUSR1})

    engine = ctypes.CDLL(library)
    engine.chdb_set_signal_handlers_enabled(0)
    engine.chdb_query_cmdline.restype = ctypes.c_void_p
    engine.chdb_result_error.restype = ctypes.c_char_p
    engine.chdb_result_error.argtypes = [ctypes.c_void_p]

    arguments = [
        "clickhouse-local",
        f"--path={data}",
        "--listen_host=127.0.0.1",
        f"--http_port={port}",
        f"--config-file={config}",
        "--structure=line String",
        "--input-format=LineAsString",
        "--table=_stop",
        "--query=SYSTEM START LISTEN HTTP; SELECT count() FROM _stop"
        " SETTINGS max_execution_time=0,max_rows_to_read=0,max_bytes_to_read=0 FORMAT Null",
    ]
    argv = (ctypes.c_char_p * len(arguments))(*(argument.encode() for argument in arguments))
    failure = []

    def serve():
        result = engine.chdb_query_cmdline(len(arguments), argv)
        error = engine.chdb_result_error(result) if result else b"no result"
        if error:
            failure.append(error.decode(errors="replace"))
        # Wakes sigwait when the server ended by itself.
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=serve)
    thread.start()
    asked_to_stop = signal.sigwait(stops | {signal.SIGUSR1}) in stops
    os.close(write_end)
    thread.join()
    if failure and not asked_to_stop:
        print("ERROR", failure[0], file=sys.stderr, flush=True)
    # Skips the library's destructors, which may hang; all data is on disk once the call has returned.
    os._exit(0 if asked_to_stop else 1)


if __name__ == "__main__":
    main(*sys.argv[1:5])
