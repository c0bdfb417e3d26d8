package clients;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** How the programs of test/clients are called, what they print, which records they produce: see doc.go there. */
final class Contract {
    /** The retention.ms of the topic that the admin scenario makes: ten years. */
    static final String RETENTION = "315360000000";

    private static final PrintStream OUT = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true, StandardCharsets.UTF_8);

    final String scenario;
    final String bootstrap;
    private final Map<String, String> values = new HashMap<>();

    Contract(String[] argv) {
        scenario = argv[0];
        bootstrap = argv[1];
        for (int i = 2; i < argv.length; i++) {
            String[] pair = argv[i].split("=", 2);
            values.put(pair[0], pair[1]);
        }
    }

    String text(String key) {
        return values.getOrDefault(key, "");
    }

    int number(String key) {
        return Integer.parseInt(values.getOrDefault(key, "0"));
    }

    /** Record i of the run. */
    ProducerRecord<String, String> record(String topic, int i, int partitions) {
        String run = text("run");
        List<Header> headers = List.of(header("run", run), header("index", Integer.toString(i)), header("empty", ""));
        return new ProducerRecord<>(topic, i % partitions, 1700000000000L + 1000L * i,
            i % 7 == 3 ? null : "key-" + i % 13,
            i % 11 == 5 ? null : run + " " + i + " schöner 🐢 " + "weir ".repeat(20), headers);
    }

    private static Header header(String key, String value) {
        return new RecordHeader(key, value.getBytes(StandardCharsets.UTF_8));
    }

    /** Prints one line; fields are name, JSON, name, JSON... */
    static synchronized void emit(String event, String... fields) {
        StringBuilder line = new StringBuilder("{\"event\":").append(quote(event));
        for (int i = 0; i < fields.length; i += 2) {
            line.append(',').append(quote(fields[i])).append(':').append(fields[i + 1]);
        }
        OUT.println(line.append('}'));
    }

    static void emit(ConsumerRecord<String, String> r) {
        List<String> headers = new ArrayList<>();
        for (Header h : r.headers()) {
            headers.add("[" + quote(h.key()) + "," + quote(new String(h.value(), StandardCharsets.UTF_8)) + "]");
        }
        emit("record", "partition", "" + r.partition(), "offset", "" + r.offset(), "key", quote(r.key()), "value", quote(r.value()),
            "headers", headers.toString(), "timestamp", "" + r.timestamp());
    }

    /** A JSON string, or null. */
    static String quote(String s) {
        if (s == null) {
            return "null";
        }
        StringBuilder out = new StringBuilder("\"");
        for (char c : s.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }
}
