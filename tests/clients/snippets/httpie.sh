http GET 'https://BASE_HOST/v1/api/apps/APP_ID/data/sent-campaigns-summary?limit=10&offset=0' \
  Authorization:'Bearer APP_TOKEN' \
  Content-Type:application/json \
  accept:application/json
