package clients;

import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Produced;

/**
 * Counts words with Kafka Streams, each exactly once. Without a cache every word
 * read gives one output, so that the outputs for a word have to be 1, 2, 3, ...
 */
final class WordCount {
    private WordCount() {
    }

    static void run(Contract args) throws Exception {
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(args.text("topic"))
            .flatMapValues(line -> List.of(line.split(" ")))
            .groupBy((key, word) -> word)
            .count()
            .toStream()
            .to(args.text("output"), Produced.with(Serdes.String(), Serdes.Long()));
        Properties config = new Properties();
        config.putAll(Map.of(
            StreamsConfig.APPLICATION_ID_CONFIG, args.text("id"),
            StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args.bootstrap,
            StreamsConfig.STATE_DIR_CONFIG, args.text("state"),
            StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2,
            StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class,
            StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class,
            StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0,
            StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100));
        config.putAll(Map.of(
            StreamsConfig.REPLICATION_FACTOR_CONFIG, 1,
            "auto.offset.reset", "earliest",
            "session.timeout.ms", 6000,
            "heartbeat.interval.ms", 500,
            "producer.transaction.timeout.ms", 10000));
        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        CountDownLatch ended = new CountDownLatch(1);
        CountDownLatch closed = new CountDownLatch(1); // close returns before the listener has heard of it
        streams.setStateListener((now, before) -> {
            Contract.emit("state", "state", Contract.quote(now.toString()));
            if (now == KafkaStreams.State.ERROR) {
                System.exit(1);
            }
            if (now == KafkaStreams.State.NOT_RUNNING) {
                closed.countDown();
            }
        });
        streams.start();
        Thread left = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (java.io.IOException e) {
                // any end is the end
            }
            ended.countDown();
        });
        left.setDaemon(true);
        left.start();
        ended.await();
        streams.close();
        closed.await();
    }
}
