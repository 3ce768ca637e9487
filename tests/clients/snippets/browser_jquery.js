const settings = {
  async: true,
  crossDomain: true,
  url: 'https://BASE_HOST/v1/api/apps/APP_ID/data/sent-campaigns-summary?limit=10&offset=0',
  method: 'GET',
  headers: {
    accept: 'application/json',
    'Content-Type': 'application/json',
    Authorization: 'Bearer APP_TOKEN',
  },
};

$.ajax(settings).done((res) => {
  console.log(res);
});
