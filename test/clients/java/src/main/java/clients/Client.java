package clients;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Runs the scenarios of test/clients with Apache Kafka's own client. */
public final class Client {
    private final Contract args;

    private Client(Contract args) {
        this.args = args;
    }

    public static void main(String[] argv) throws Exception {
        Client client = new Client(new Contract(argv));
        switch (client.args.scenario) {
            case "produce" -> client.produce();
            case "consume" -> client.consume();
            case "group" -> client.group();
            case "transact" -> client.transact();
            case "admin" -> client.admin();
            case "wordcount" -> WordCount.run(client.args);
            default -> throw new IllegalArgumentException("no scenario " + client.args.scenario);
        }
        Contract.emit("done");
    }

    private KafkaProducer<String, String> producer(Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", args.bootstrap, "linger.ms", 5));
        config.putAll(more);
        return new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
    }

    private KafkaConsumer<String, String> consumer(Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", args.bootstrap, "auto.offset.reset", "earliest",
            "enable.auto.commit", false, "fetch.max.wait.ms", 100));
        config.putAll(more);
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    /** Sends the records and waits for all acknowledgements. */
    private void send(KafkaProducer<String, String> p, int from, int count, int partitions) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int i = from; i < from + count; i++) {
            sent.add(p.send(args.record(args.text("topic"), i, partitions)));
        }
        p.flush();
        for (Future<RecordMetadata> s : sent) {
            s.get();
        }
    }

    private void produce() throws Exception {
        int count = args.number("count");
        int batch = args.number("batch") == 0 ? count : args.number("batch");
        BufferedReader turns = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (KafkaProducer<String, String> p = producer(Map.of("enable.idempotence", args.text("idempotent"), "compression.type", args.text("codec")))) {
            for (int done = 0; done < count; ) {
                if (args.text("paced").equals("true")) {
                    turns.readLine();
                }
                int n = Math.min(batch, count - done);
                send(p, args.number("from") + done, n, args.number("partitions"));
                done += n;
                Contract.emit("acked", "count", "" + done);
            }
        }
    }

    private void consume() {
        try (KafkaConsumer<String, String> c = consumer(Map.of("isolation.level", "read_" + args.text("isolation")))) {
            List<TopicPartition> all = IntStream.range(0, args.number("partitions")).mapToObj(p -> new TopicPartition(args.text("topic"), p)).toList();
            c.assign(all);
            Set<Integer> ends = new HashSet<>();
            while (ends.size() < all.size()) {
                for (ConsumerRecord<String, String> r : c.poll(Duration.ofSeconds(1))) {
                    if ("end".equals(r.value())) {
                        ends.add(r.partition());
                    } else {
                        Contract.emit(r);
                    }
                }
            }
        }
    }

    private void group() {
        Thread left = new Thread(Client::drain);
        left.setDaemon(true);
        left.start();
        Map<String, Object> config = new HashMap<>(Map.of("group.id", args.text("group")));
        if (args.text("protocol").equals("consumer")) { // KIP-848: the broker assigns
            config.put("group.protocol", "consumer");
        } else {
            config.putAll(Map.of("heartbeat.interval.ms", 500, "session.timeout.ms", 6000));
            if (args.text("assignor").equals("cooperative-sticky")) {
                config.put("partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
            } else if (args.text("assignor").equals("range")) {
                config.put("partition.assignment.strategy", RangeAssignor.class.getName());
            }
        }
        try (KafkaConsumer<String, String> c = consumer(config)) {
            c.subscribe(List.of(args.text("topic")), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> parts) {
                    Contract.emit("assigned", "partitions", c.assignment().stream().map(TopicPartition::partition).toList().toString());
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> parts) {
                    if (!args.text("assignor").isEmpty()) { // what it has consumed, others shall not
                        committed(c);
                    }
                    Set<TopicPartition> kept = new HashSet<>(c.assignment());
                    kept.removeAll(parts);
                    Contract.emit("assigned", "partitions", kept.stream().map(TopicPartition::partition).toList().toString());
                }
            });
            for (boolean done = true; left.isAlive() || !done; ) {
                for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(100))) {
                    Contract.emit(r);
                }
                done = committed(c);
            }
        }
    }

    /** Commits, unless a rebalance is on its way: then the next commit has it. */
    private boolean committed(KafkaConsumer<String, String> c) {
        try {
            c.commitSync();
            return true;
        } catch (RebalanceInProgressException e) {
            return false; // a cooperative one
        } catch (CommitFailedException e) {
            if (!args.text("protocol").equals("consumer")) {
                throw e;
            }
            return false; // with KIP-848 a commit may cross a new epoch
        }
    }

    private static void drain() {
        try {
            System.in.readAllBytes();
        } catch (java.io.IOException e) {
            // any end is the end
        }
    }

    private void transact() throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (KafkaProducer<String, String> p = producer(Map.of("transactional.id", args.text("id")))) {
            boolean begun = false;
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                String[] words = line.split(" ");
                try {
                    if (!begun) {
                        p.initTransactions();
                        begun = true;
                    }
                    step(p, words);
                    Contract.emit("ok", "step", Contract.quote(words[0]));
                } catch (KafkaException | java.util.concurrent.ExecutionException e) {
                    Contract.emit("failed", "step", Contract.quote(words[0]), "error", Contract.quote(e.toString()), "fenced", "" + fenced(e));
                }
            }
        }
    }

    private void step(KafkaProducer<String, String> p, String[] words) throws Exception {
        switch (words[0]) {
            case "begin" -> p.beginTransaction();
            case "produce" -> send(p, Integer.parseInt(words[1]), Integer.parseInt(words[2]), args.number("partitions"));
            case "offset" -> p.sendOffsetsToTransaction(
                Map.of(new TopicPartition(args.text("source"), 0), new OffsetAndMetadata(Long.parseLong(words[1]))),
                new ConsumerGroupMetadata(args.text("group")));
            case "commit" -> p.commitTransaction();
            case "abort" -> p.abortTransaction();
            default -> throw new IllegalArgumentException("no step " + words[0]);
        }
    }

    private static boolean fenced(Throwable e) {
        for (; e != null; e = e.getCause()) {
            if (e instanceof ProducerFencedException || e instanceof InvalidProducerEpochException) {
                return true;
            }
        }
        return false;
    }

    private void admin() throws Exception {
        String topic = args.text("topic");
        try (Admin a = Admin.create(Map.of("bootstrap.servers", args.bootstrap)); KafkaProducer<String, String> p = producer(Map.of())) {
            a.createTopics(List.of(new NewTopic(topic, 3, (short) 1).configs(Map.of("retention.ms", Contract.RETENTION)))).all().get();
            send(p, 0, 30, 3);
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            String retention = a.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value();
            Contract.emit("config", "retention.ms", Contract.quote(retention));
            a.deleteRecords(Map.of(new TopicPartition(topic, 0), RecordsToDelete.beforeOffset(5))).all().get();
        }
    }
}
