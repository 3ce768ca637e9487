# ruff: noqa: T201
# mypy: ignore-errors
import requests

url = "https://BASE_HOST/v1/api/apps/APP_ID/data/sent-campaigns-summary?limit=10&offset=0"

headers = {
    "accept": "application/json",
    "Content-Type": "application/json",
    "Authorization": "Bearer APP_TOKEN",
}

response = requests.get(url, headers=headers)

print(response.text)
