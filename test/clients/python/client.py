"""Runs the scenarios of test/clients with confluent-kafka, which is librdkafka.

How it is called and what it prints is in ../doc.go.
"""

import json
import sys
import threading

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

RETENTION = "315360000000"  # ten years

scenario, bootstrap = sys.argv[1], sys.argv[2]
args = dict(a.split("=", 1) for a in sys.argv[3:])
partitions = int(args.get("partitions", 0))


def emit(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def record(i, of):
    return {
        "partition": i % of,
        "key": None if i % 7 == 3 else f"key-{i % 13}",
        "value": None if i % 11 == 5 else f"{args['run']} {i} schöner 🐢 {'weir ' * 20}",
        "headers": [("run", args["run"]), ("index", str(i)), ("empty", "")],
        "timestamp": 1700000000000 + 1000 * i,
    }


def text(data):
    return None if data is None else data.decode()


def emit_record(m):
    emit("record", partition=m.partition(), offset=m.offset(), key=text(m.key()), value=text(m.value()),
         headers=[[k, text(v)] for k, v in m.headers() or []], timestamp=m.timestamp()[1])


def send(p, topic, indexes, of):
    """Sends the records and waits for all acknowledgements."""
    failed = []
    for i in indexes:
        p.produce(topic, on_delivery=lambda err, _: failed.append(err) if err else None, **record(i, of))
    p.flush()
    if failed:
        raise KafkaException(failed[0])


def producer(**more):
    return Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, **more})


def consumer(**more):
    return Consumer({"bootstrap.servers": bootstrap, "group.id": args.get("group", "unused"), "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "fetch.wait.max.ms": 100, **more})


def produce():
    p = producer(**{"enable.idempotence": args["idempotent"] == "true", "compression.type": args["codec"]})
    start, count = int(args.get("from", 0)), int(args["count"])
    batch = int(args.get("batch", count))
    for done in range(0, count, batch):
        if args.get("paced") == "true":
            sys.stdin.readline()
        upto = min(done + batch, count)
        send(p, args["topic"], range(start + done, start + upto), partitions)
        emit("acked", count=upto)


def messages(c, timeout):
    """Every message; None where there was none for so long."""
    while True:
        m = c.poll(timeout)
        if m is not None and m.error():
            raise KafkaException(m.error())
        yield m


def consume():
    c = consumer(**{"isolation.level": "read_" + args["isolation"]})
    c.assign([TopicPartition(args["topic"], p, 0) for p in range(partitions)])
    ends = set()
    for m in messages(c, 1):
        if m is None:
            continue
        if m.value() == b"end":
            ends.add(m.partition())
            if len(ends) == partitions:
                break
        else:
            emit_record(m)
    c.close()


def group():
    left = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), left.set()), daemon=True).start()
    if args.get("protocol") == "consumer":  # KIP-848: the broker assigns
        c = consumer(**{"group.protocol": "consumer"})
    else:
        c = consumer(**{"heartbeat.interval.ms": 500, "session.timeout.ms": 6000, "partition.assignment.strategy": "range"})
    c.subscribe([args["topic"]], on_assign=lambda _, parts: emit("assigned", partitions=[p.partition for p in parts]),
                on_revoke=lambda _, parts: emit("assigned", partitions=[]))
    for m in messages(c, 0.1):
        if left.is_set():
            break
        if m is not None:
            emit_record(m)
            c.commit(m, asynchronous=False)
    c.close()


FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


def transact():
    p = producer(**{"transactional.id": args["id"]})
    c = consumer()
    begun = False

    def begin():
        nonlocal begun
        if not begun:
            p.init_transactions()
            begun = True
        p.begin_transaction()

    steps = {
        "begin": begin,
        "produce": lambda start, count: send(p, args["topic"], range(start, start + count), partitions),
        "offset": lambda offset: p.send_offsets_to_transaction([TopicPartition(args["source"], 0, offset)], c.consumer_group_metadata()),
        "commit": p.commit_transaction,
        "abort": p.abort_transaction,
    }
    for line in sys.stdin:
        step, *numbers = line.split()
        try:
            steps[step](*map(int, numbers))
            emit("ok", step=step)
        except KafkaException as e:
            emit("failed", step=step, error=str(e), fenced=e.args[0].code() in FENCED)


def admin():
    topic = args["topic"]
    a = AdminClient({"bootstrap.servers": bootstrap})
    a.create_topics([NewTopic(topic, 3, 1, config={"retention.ms": RETENTION})])[topic].result()
    send(producer(), topic, range(30), 3)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    emit("config", **{"retention.ms": a.describe_configs([resource])[resource].result()["retention.ms"].value})
    for deleted in a.delete_records([TopicPartition(topic, 0, 5)]).values():
        deleted.result()


{"produce": produce, "consume": consume, "group": group, "transact": transact, "admin": admin}[scenario]()
emit("done")
