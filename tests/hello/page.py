"""The example that streams: a page, and the text that it shows word by word. `make serve FUNCTION=tests/hello HANDLER=page.handler`

/ is the page. Its EventSource reads /hello?name=Ada, server-sent events with a word in each.
"""

import json
import time

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Words from a function</title>
<link rel="icon" href="data:,">
<style>
  body { font: 20px/1.6 system-ui, sans-serif; max-width: 32em; margin: 2em auto; padding: 0 1em; color: #222 }
  input { font: inherit; width: 9em } button { font: inherit }
  #text { white-space: pre-wrap } #text.open::after { content: "▍"; color: #e80 }
</style>
<form>Greet <input name="name" value="Ada"> <button>again</button></form>
<p id="text"></p>
<script>
  const form = document.querySelector("form"), text = document.querySelector("#text")
  let source
  form.onsubmit = event => {
    event?.preventDefault()
    source?.close()
    text.textContent = ""
    text.className = "open"
    source = new EventSource("hello?" + new URLSearchParams(new FormData(form)))
    source.onmessage = message => text.append(JSON.parse(message.data))
    // An EventSource whose stream has ended asks for it again.
    source.addEventListener("end", () => { source.close(); text.className = "" })
    source.onerror = () => { source.close(); text.className = ""; text.append("\\n(the stream broke off)") }
  }
  form.onsubmit()
</script>
"""


def words(name):
    """Stands for what makes your tokens."""
    text = (
        f"Hello, {name}! You read these words one after another, as the function makes them: each of its yields "
        "is a chunk of the HTTP response, and your browser has it before the next is there."
    )
    for word in text.split():
        time.sleep(0.1)
        yield word + " "


def handler(event, context):
    if not event["rawPath"].endswith("/hello"):
        yield {"statusCode": 200, "headers": {"content-type": "text/html; charset=utf-8"}}
        yield PAGE
        return
    yield {"statusCode": 200, "headers": {"content-type": "text/event-stream", "cache-control": "no-store"}}
    for word in words((event.get("queryStringParameters") or {}).get("name", "world")):
        yield f"data: {json.dumps(word)}\n\n"
    yield "event: end\ndata:\n\n"
