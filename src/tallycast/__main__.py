from tallycast.cli import main

main()
