import axios from 'axios';

const options = {
  method: 'GET',
  url: 'https://BASE_HOST/v1/api/apps/APP_ID/data/sent-campaigns-summary',
  params: { limit: '10', offset: '0' },
  headers: {
    accept: 'application/json',
    'Content-Type': 'application/json',
    Authorization: 'Bearer APP_TOKEN',
  },
};

axios
  .request(options)
  .then((res) => console.log(res.data))
  .catch((err) => console.error(err));
