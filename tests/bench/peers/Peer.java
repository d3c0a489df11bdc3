import com.aliyun.odps.Odps;
import com.aliyun.odps.account.AliyunAccount;
import com.aliyun.odps.data.Record;
import com.aliyun.odps.tunnel.TableTunnel;
import com.aliyun.odps.tunnel.io.CompressOption;
import com.aliyun.odps.tunnel.streams.UpsertStream;
import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * MaxCompute's Java SDK, as a process that the benchmark `peers` measures.
 *
 * <p>Reads orders from standard input (`order.rs`): answers `ready`, waits for `go`, and answers
 * when the rows are committed. The values of the rows are made when it starts. A record is used
 * again for every row, which is the fastest way that the SDK has: it writes a record into its
 * buffer before `upsert` returns.
 */
public final class Peer {
  private static final int MILLION = 1_000_000;
  private static final int A = 50;
  private static final int B = 52;
  private static final long FIRST_AT = 1_780_000_000_000L;

  private final Odps odps;
  private final String[] a = new String[MILLION];
  private final String[] b = new String[MILLION];
  private final Instant[] at = new Instant[MILLION];

  private Peer(String endpoint, Path texts) throws Exception {
    odps = new Odps(new AliyunAccount("local", "local"));
    odps.setEndpoint(endpoint);
    odps.setDefaultProject("local");
    byte[] bytes = Files.readAllBytes(texts);
    for (int row = 0; row < MILLION; row++) {
      int from = row * (A + B);
      a[row] = new String(bytes, from, A, StandardCharsets.US_ASCII);
      b[row] = new String(bytes, from + A, B, StandardCharsets.US_ASCII);
      at[row] = Instant.ofEpochMilli(FIRST_AT + row);
    }
  }

  public static void main(String[] arguments) throws Exception {
    // Whatever a library prints must not stand among the answers.
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.setOut(System.err);
    Peer peer = new Peer(arguments[0], Path.of(arguments[1]));
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      JsonObject order = JsonParser.parseString(line).getAsJsonObject();
      out.println("ready");
      in.readLine();
      JsonObject answer = new JsonObject();
      try {
        peer.carryOut(order);
      } catch (Throwable error) {
        answer.addProperty("error", String.valueOf(error));
      }
      out.println(new Gson().toJson(answer));
    }
    System.exit(0);
  }

  private void carryOut(JsonObject order) throws Exception {
    boolean wide = order.get("wide").getAsBoolean();
    TableTunnel.UpsertSession.Builder building =
        new TableTunnel(odps).buildUpsertSession("local", "bench");
    if (wide) {
      building.setConcurrentNum(16);
    }
    TableTunnel.UpsertSession session = building.build();
    boolean async = order.get("mode").getAsString().equals("async");
    ExecutorService flushing = async ? Executors.newSingleThreadExecutor() : null;
    try {
      UpsertStream.Builder stream = session.buildUpsertStream();
      stream.setCompressOption(compression(order.get("compression").getAsString()));
      if (wide) {
        stream.setSlotBufferSize(4 << 20).setMaxBufferSize(128 << 20);
      }
      if (async) {
        stream.setAsyncFlushService(flushing);
      }
      write(session, stream.build(), order.get("rows").getAsLong());
      session.commit(false);
    } finally {
      session.close();
      if (async) {
        flushing.shutdown();
      }
    }
  }

  private void write(TableTunnel.UpsertSession session, UpsertStream stream, long rows)
      throws Exception {
    Record record = session.newRecord();
    for (long row = 0; row < rows; row++) {
      int of = (int) (row % MILLION);
      record.set(0, row);
      record.set(1, a[of]);
      record.set(2, b[of]);
      record.set(3, of / 7.0);
      record.set(4, at[of]);
      stream.upsert(record);
    }
    stream.close();
  }

  private static CompressOption compression(String name) {
    CompressOption.CompressAlgorithm algorithm =
        switch (name) {
          case "lz4" -> CompressOption.CompressAlgorithm.ODPS_LZ4_FRAME;
          case "zlib" -> CompressOption.CompressAlgorithm.ODPS_ZLIB;
          default -> CompressOption.CompressAlgorithm.ODPS_RAW;
        };
    return new CompressOption(algorithm, 1, 0);
  }
}
