// Before a snippet runs: what it prints as an object, or as an error with an answer, comes as one line of JSON.
const https = require('https');

const print = console.log;
const printJson = (value) => print(typeof value === 'string' ? value : JSON.stringify(value?.response?.data ?? value));
console.log = printJson;
console.error = printJson;

// `port: null` is HTTPS's own port, which a test does not own.
https.globalAgent.defaultPort = Number(process.env.BASE_PORT);
