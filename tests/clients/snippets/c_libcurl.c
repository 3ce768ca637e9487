#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
  CURL *hnd = curl_easy_init();

  curl_easy_setopt(hnd, CURLOPT_CUSTOMREQUEST, "GET");
  curl_easy_setopt(hnd, CURLOPT_WRITEDATA, stdout);
  curl_easy_setopt(hnd, CURLOPT_URL, "https://BASE_HOST/v1/api/apps/APP_ID/data/sent-campaigns-summary?limit=10&offset=0");
  curl_easy_setopt(hnd, CURLOPT_CAINFO, getenv("CURL_CA_BUNDLE")); /* not on the page: libcurl reads no environment */

  struct curl_slist *headers = NULL;
  headers = curl_slist_append(headers, "accept: application/json");
  headers = curl_slist_append(headers, "Content-Type: application/json");
  headers = curl_slist_append(headers, "Authorization: Bearer APP_TOKEN");
  curl_easy_setopt(hnd, CURLOPT_HTTPHEADER, headers);

  CURLcode ret = curl_easy_perform(hnd);
  return ret;
}
