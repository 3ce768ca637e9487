require 'uri'
require 'net/http'

url = URI("https://BASE_HOST/v1/api/apps/APP_ID/data/sent-campaigns-summary?limit=10&offset=0")

http = Net::HTTP.new(url.host, url.port)
http.use_ssl = true

request = Net::HTTP::Get.new(url)
request["accept"] = 'application/json'
request["Content-Type"] = 'application/json'
request["Authorization"] = 'Bearer APP_TOKEN'

response = http.request(request)
puts response.read_body
