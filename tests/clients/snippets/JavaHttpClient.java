import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class JavaHttpClient {
    public static void main(String[] args) throws Exception {
        HttpRequest request = HttpRequest.newBuilder()
            .uri(URI.create("https://BASE_HOST/v1/api/apps/APP_ID/data/sent-campaigns-summary?limit=10&offset=0"))
            .header("accept", "application/json")
            .header("Content-Type", "application/json")
            .header("Authorization", "Bearer APP_TOKEN")
            .method("GET", HttpRequest.BodyPublishers.noBody())
            .build();
        HttpResponse<String> response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(response.body());
    }
}
