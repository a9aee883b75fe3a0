import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;

/**
 * Asks a URL again and again with Java's own HTTP client, which keeps its connection, until
 * the file /run/enough appears. Prints how often it has asked, how many connections it has
 * made, and each failure.
 *
 * <p>java Clients.java METHOD PAUSE URL
 *
 * <p>PAUSE is between two requests, in seconds. By itself the client repeats a request whose
 * connection has died. Here it may make one attempt only, so that it fails instead.
 */
class Clients {
  public static void main(String[] args) throws Exception {
    System.setProperty("jdk.httpclient.redirects.retrylimit", "1");
    var ask = HttpRequest.newBuilder(URI.create(args[2] + "?peer")).version(HttpClient.Version.HTTP_1_1);
    if (args[0].equals("POST")) {
      ask.POST(HttpRequest.BodyPublishers.ofString("x".repeat(1000)));
    }
    var request = ask.build();
    var client = HttpClient.newHttpClient();
    var asked = 0;
    var peers = new HashSet<String>();
    var failed = new ArrayList<String>();
    while (!Files.exists(Path.of("/run/enough"))) {
      try {
        var answer = client.send(request, BodyHandlers.ofString());
        asked++;
        peers.add(answer.body());
        if (answer.statusCode() != 200) {
          failed.add("\"status " + answer.statusCode() + "\"");
        }
      } catch (Exception failure) {
        var cause = failure.getCause() == null ? failure : failure.getCause();
        failed.add("\"" + (failure + ": " + cause).replaceAll("[\"\\\\]", "'") + "\"");
      }
      Thread.sleep(Math.round(1000 * Double.parseDouble(args[1])));
    }
    System.out.printf("{\"asked\": %d, \"connections\": %d, \"failed\": %s}%n", asked, peers.size(), failed);
    System.exit(0); // threads of the client may still run
  }
}
