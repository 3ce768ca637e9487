const http = require('https');

const options = {
  method: 'GET',
  hostname: 'BASE_NAME',
  port: null,
  path: '/v1/api/apps/APP_ID/data/sent-campaigns-summary?limit=10&offset=0',
  headers: {
    accept: 'application/json',
    'Content-Type': 'application/json',
    Authorization: 'Bearer APP_TOKEN',
  },
};

const req = http.request(options, function (res) {
  const chunks = [];

  res.on('data', function (chunk) {
    chunks.push(chunk);
  });

  res.on('end', function () {
    console.log(Buffer.concat(chunks).toString());
  });
});

req.end();
