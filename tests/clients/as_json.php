<?php

// Before a snippet runs: Guzzle throws at a 4xx; print the answer that its exception carries.
set_exception_handler(fn ($exception) => print $exception->getResponse()->getBody());
