import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.util.concurrent.atomic.LongAdder;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.datagen.source.DataGeneratorSource;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.Table;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.types.Row;

/**
 * Windows of Flink SQL (OVER with RANGE, in event time) over made events: event i has the time i ms,
 * a key and an amount that follow from i. Prints one line of figures.
 *
 * <p>Arguments: the events of the warm-up, the events, the keys, then the windows' lengths in ms.
 */
public class Over {
  static final LongAdder rows = new LongAdder(), sums = new LongAdder();

  /** mix is the finaliser of SplitMix64. */
  static long mix(long x) {
    x += 0x9e3779b97f4a7c15L;
    x = (x ^ (x >>> 30)) * 0xbf58476d1ce4e5b9L;
    x = (x ^ (x >>> 27)) * 0x94d049bb133111ebL;
    return x ^ (x >>> 31);
  }

  static void run(long events, long keys, long[] lengths) throws Exception {
    Configuration conf = new Configuration();
    conf.setString("parallelism.default", "1");
    conf.setString("state.backend.type", "hashmap");
    conf.setString("pipeline.object-reuse", "true");
    conf.setString("taskmanager.memory.network.min", "64mb");
    StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(conf);
    env.setParallelism(1);
    StreamTableEnvironment tables = StreamTableEnvironment.create(env);
    DataStream<Row> made =
        env.fromSource(
            new DataGeneratorSource<>(
                i -> {
                  long h = mix(i);
                  return Row.of(
                      i + 1, // Flink takes time 0 for late
                      Long.remainderUnsigned(h, keys),
                      Long.remainderUnsigned(mix(h), 100_000));
                },
                events,
                Types.ROW_NAMED(new String[] {"ms", "k", "amount"}, Types.LONG, Types.LONG, Types.LONG)),
            WatermarkStrategy.noWatermarks(),
            "events");
    Table t =
        tables.fromDataStream(
            made,
            Schema.newBuilder()
                .column("ms", DataTypes.BIGINT())
                .column("k", DataTypes.BIGINT())
                .column("amount", DataTypes.BIGINT())
                .columnByExpression("rt", "TO_TIMESTAMP_LTZ(ms, 3)")
                .watermark("rt", "rt - INTERVAL '0.001' SECOND")
                .build());
    tables.createTemporaryView("t0", t);
    StringBuilder total = new StringBuilder();
    for (int i = 0; i < lengths.length; i++) {
      // A window of Weir is open at its far end, one of SQL is closed there.
      String over =
          String.format(
              "OVER (PARTITION BY k ORDER BY rt RANGE BETWEEN INTERVAL '%d %02d:%02d:%02d.%03d' DAY TO SECOND(3) PRECEDING AND CURRENT ROW)",
              (lengths[i] - 1) / 86_400_000, (lengths[i] - 1) / 3_600_000 % 24, (lengths[i] - 1) / 60_000 % 60,
              (lengths[i] - 1) / 1000 % 60, (lengths[i] - 1) % 1000);
      tables.createTemporaryView(
          "t" + (i + 1),
          tables.sqlQuery(
              String.format(
                  "SELECT *, SUM(amount) %s AS s%d, COUNT(*) %s AS c%d FROM t%d",
                  over, i, over, i, i)));
      total.append(i == 0 ? "" : " + ").append(String.format("s%d + c%d", i, i));
    }
    rows.reset();
    sums.reset();
    tables
        .toDataStream(tables.sqlQuery("SELECT " + total + " AS total FROM t" + lengths.length))
        .map(
            row -> {
              rows.increment();
              sums.add((Long) row.getField(0));
              return row;
            })
        .returns(Types.ROW(Types.LONG))
        .sinkTo(new DiscardingSink<>());
    env.execute();
  }

  static long cpu() {
    return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
        .getProcessCpuTime();
  }

  public static void main(String[] args) throws Exception {
    long warm = Long.parseLong(args[0]), events = Long.parseLong(args[1]), keys = Long.parseLong(args[2]);
    long[] lengths = new long[args.length - 3];
    for (int i = 0; i < lengths.length; i++) {
      lengths[i] = Long.parseLong(args[i + 3]);
    }
    run(warm, keys, lengths);
    System.gc();
    for (MemoryPoolMXBean pool : ManagementFactory.getMemoryPoolMXBeans()) {
      pool.resetPeakUsage();
    }
    long cpu = cpu(), wall = System.nanoTime();
    run(events, keys, lengths);
    wall = System.nanoTime() - wall;
    cpu = cpu() - cpu;
    System.out.printf(
        "{\"rows\": %d, \"sum\": %d, \"wall_ns\": %d, \"cpu_ns\": %d}%n",
        rows.sum(), sums.sum(), wall, cpu);
    System.exit(0);
  }
}
