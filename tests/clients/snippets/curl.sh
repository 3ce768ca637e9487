curl --request GET \
     --url 'https://BASE_HOST/v1/api/apps/APP_ID/data/sent-campaigns-summary?limit=10&offset=0' \
     --header 'Authorization: Bearer APP_TOKEN' \
     --header 'Content-Type: application/json' \
     --header 'accept: application/json'
