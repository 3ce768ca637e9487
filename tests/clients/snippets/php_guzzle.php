<?php

require_once('vendor/autoload.php');

$client = new \GuzzleHttp\Client();

$response = $client->request('GET', 'https://BASE_HOST/v1/api/apps/APP_ID/data/sent-campaigns-summary?limit=10&offset=0', [
    'headers' => [
        'Authorization' => 'Bearer APP_TOKEN',
        'Content-Type' => 'application/json',
        'accept' => 'application/json',
    ],
]);

echo $response->getBody();
