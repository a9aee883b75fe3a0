import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HexFormat;

/** Answers each request with the sum of its body, with java.nio alone. */
class Nio {
  public static void main(String[] args) throws Exception {
    Selector selector = Selector.open();
    ServerSocketChannel server = ServerSocketChannel.open();
    server.bind(new InetSocketAddress("127.0.0.1", 8093), 100);
    server.configureBlocking(false);
    server.register(selector, SelectionKey.OP_ACCEPT);
    ByteBuffer buffer = ByteBuffer.allocateDirect(1 << 16);
    while (true) {
      selector.select();
      for (SelectionKey key : selector.selectedKeys()) {
        if (key.isAcceptable()) {
          SocketChannel accepted = server.accept();
          if (accepted != null) {
            accepted.configureBlocking(false);
            accepted.register(selector, SelectionKey.OP_READ, new ByteArrayOutputStream());
          }
          continue;
        }
        SocketChannel channel = (SocketChannel) key.channel();
        ByteArrayOutputStream text = (ByteArrayOutputStream) key.attachment();
        buffer.clear();
        int n;
        try {
          n = channel.read(buffer);
        } catch (IOException reset) {
          n = -1;
        }
        if (n < 0) {
          channel.close();
          continue;
        }
        byte[] read = new byte[n];
        buffer.flip().get(read);
        text.write(read);
        if (text.size() >= wanted(text)) {
          answer(channel, text);
          text.reset();
        }
      }
      selector.selectedKeys().clear();
    }
  }

  /** How many bytes the request has, head and body; more than there are if that is not known yet. */
  static int wanted(ByteArrayOutputStream text) {
    String head = new String(text.toByteArray(), 0, Math.min(text.size(), 1000), StandardCharsets.ISO_8859_1);
    int end = head.indexOf("\r\n\r\n");
    if (end < 0) {
      return Integer.MAX_VALUE;
    }
    int at = head.indexOf("Content-Length: ");
    int length = at < 0 || at > end ? 0 : Integer.parseInt(head.substring(at + 16, head.indexOf("\r\n", at)));
    return end + 4 + length;
  }

  static void answer(SocketChannel channel, ByteArrayOutputStream text) throws Exception {
    byte[] all = text.toByteArray();
    int begin = new String(all, 0, Math.min(all.length, 1000), StandardCharsets.ISO_8859_1).indexOf("\r\n\r\n") + 4;
    MessageDigest digest = MessageDigest.getInstance("SHA-256");
    digest.update(all, begin, all.length - begin);
    String head = "HTTP/1.1 200 OK\r\nServer: nio/1.0.0.0\r\nContent-Length: 64\r\n\r\n";
    channel.write(ByteBuffer.wrap((head + HexFormat.of().formatHex(digest.digest())).getBytes()));
  }
}
